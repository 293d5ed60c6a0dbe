"""MLflow's comparison as `parrots ui` opens it: the sweep's runs, their columns, parallel coordinates and scores by size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .conftest import wait_until_up


def test_mlflows_comparison_opens_on_both_charts_with_the_right_columns_and_holds_the_report(here, browser, port, tmp_path):
    command = [sys.executable, "-u", "-m", "sweeps.cli", "ui", "quickstart", "--port", str(port)]
    server = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        links = {}
        while len(links) < 2:
            if found := re.match(r"compare quickstart, parrots/(\w+): (http://127\.0\.0\.1:\S+)", server.stdout.readline()):
                links[found[1]] = found[2]
        wait_until_up(port)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        tags = client.get_experiment_by_name("parrots/length2_path").tags
        across = json.loads(tags["mlflow.sharedViewState.parrots-quickstart"])["compareRunCharts"][0]
        browser.set_window_size(1800, 1400)
        browser.get(links["length2_path"])
        wait = WebDriverWait(browser, 120)
        wait.until(lambda b: "6 matching runs" in b.execute_script("return document.body.textContent"))

        def texts(of: str) -> set[str]:
            said = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
            return set(browser.execute_script(said, of))

        wait.until(lambda _: {"N_total", "N_active"} <= texts("svg .xtitle") and "exact_match" in texts("svg .ytitle"))
        assert {"N_total", "N_active", "d_ff"} <= set(across["selectedParams"])
        wait.until(lambda _: set(across["selectedParams"]) <= texts("svg text"))
        wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) >= 12)
        if kept := os.environ.get("PARROTS_PICTURES"):  # where README's picture of it is made anew
            browser.save_screenshot(str(Path(kept) / "mlflow.png"))
        (sweep,) = client.search_runs([client.get_experiment_by_name("parrots/sweeps").experiment_id])
        served = Path(client.download_artifacts(sweep.info.run_id, "report/report.html", tmp_path))
        assert served.read_bytes() == (here / "results/reports/quickstart/report.html").read_bytes()
    finally:
        server.terminate()
        server.wait(30)
