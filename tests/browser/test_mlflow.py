"""MLflow's comparison as `parrots ui` opens it: the sweep's runs, their columns, parallel coordinates and scores by size."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from parrots.measurement import Measurement
from sweeps.comparison import AT_ONCE
from sweeps.tracking import Store

from ..conftest import make
from ..test_record import record
from .conftest import wait_until_up


@contextmanager
def opened(folder: Path, sweep: str, port: int) -> Iterator[dict[str, str]]:
    """`parrots ui SWEEP` over a folder's results, and the addresses that it prints by what they show."""
    said = folder / f"said-{port}"
    with said.open("w") as log:
        command = [sys.executable, "-u", "-m", "sweeps.cli", "ui", sweep, "--port", str(port)]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until_up(port, patience_s=300)
        yield dict(re.findall(rf"compare {sweep}, parrots/(.+): (http://127\.0\.0\.1:\S+)", said.read_text()))
    finally:
        server.terminate()
        server.wait(30)


def texts(browser, of: str) -> set[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent.trim())"
    return set(browser.execute_script(script, of))


def matching(browser, count: int) -> None:
    said = f"{count} matching runs"
    WebDriverWait(browser, 120).until(lambda b: said in b.execute_script("return document.body.textContent"))


def test_mlflows_comparison_opens_on_both_charts_with_the_right_columns_and_holds_the_report(here, browser, port, tmp_path):
    with opened(here, "quickstart", port) as links:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        tags = client.get_experiment_by_name("parrots/length2_path").tags
        across = json.loads(tags["mlflow.sharedViewState.parrots-quickstart"])["compareRunCharts"][0]
        browser.set_window_size(1800, 1400)
        browser.get(links["length2_path"])
        matching(browser, 6)
        wait = WebDriverWait(browser, 120)
        sizes = {"N_total", "N_active"}
        wait.until(lambda b: sizes <= texts(b, "svg .xtitle") and "exact_match" in texts(b, "svg .ytitle"))
        assert {*sizes, "d_ff"} <= set(across["selectedParams"])
        wait.until(lambda b: set(across["selectedParams"]) <= texts(b, "svg text"))
        wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) >= 12)
        if kept := os.environ.get("PARROTS_PICTURES"):  # where README's picture of it is made anew
            browser.save_screenshot(str(Path(kept) / "mlflow.png"))
        (sweep,) = client.search_runs([client.get_experiment_by_name("parrots/sweeps").experiment_id])
        served = Path(client.download_artifacts(sweep.info.run_id, "report/report.html", tmp_path))
        assert served.read_bytes() == (here / "results/reports/quickstart/report.html").read_bytes()


def test_of_more_runs_than_mlflows_page_takes_it_shows_the_best_and_another_page_all(browser, port, tmp_path):
    store, scores = Store(tmp_path / "results"), [37 * seed % (AT_ONCE + 1) for seed in range(AT_ONCE + 1)]
    for seed, score in enumerate(scores):
        trial = make(seed=seed, lr=1e-2 if seed % 2 else 1e-3)
        record(trial, measurements=[Measurement("exact_match", 20, score / 1000, 0.1, 25)]).write(store.results)
        store.mirror(trial.id, "many")
    with opened(tmp_path, "many", port) as links:
        assert list(links) == ["phonebook, the best 100 runs", "phonebook, all 101"]
        best, every = links.values()
        browser.set_window_size(1800, 1400)
        browser.get(best)
        matching(browser, AT_ONCE)
        wait = WebDriverWait(browser, 120)
        wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) == 2 * AT_ONCE)
        browser.get(best.replace("CHART", "TABLE"))
        shown = {"exact_match", "N_total", "N_active", "lr", "train_s"}
        wait.until(lambda b: shown <= texts(b, ".ag-header-cell"))
        said = '.ag-cell[col-id*="exact_match"]'
        wait.until(lambda b: texts(b, said) == {f"{score / 1000:g}" for score in scores if score})
        browser.get(every)
        wait.until(lambda b: "Comparing 101 Runs" in b.execute_script("return document.body.textContent"))
