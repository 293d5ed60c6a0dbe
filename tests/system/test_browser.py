"""The report and MLflow's comparison as a person sees them, in headless Chromium."""

import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the PATH (Debian: chromium-driver)")
FLAGS = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update"]
FLAGS += ["disable-sync", "disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    command = [sys.executable, "-m", "sweeps.cli", "run", "quickstart", "--scale", "smoke"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=400)
    return folder


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def complaints(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.mark.parametrize("width", [1200, 390])
def test_the_report_shows_verdicts_and_figures_on_a_desk_and_on_a_phone(here, browser, width):
    browser.set_window_size(width, 1000)
    browser.get((here / "results/reports/quickstart/report.html").absolute().as_uri())
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".verdict")
    assert [v.text.split(":")[0] for v in verdicts] == [
        "memory follows total parameters",
        "reasoning follows active parameters",
    ]
    assert all(v.is_displayed() for v in verdicts)
    figures = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(figures) >= 2
    assert all(f.is_displayed() and f.size["width"] >= 600 and f.size["height"] > 150 for f in figures)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    mark = browser.find_elements(By.CSS_SELECTOR, "figure svg [data-told]")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", mark)
    ActionChains(browser).move_to_element(mark).perform()
    assert re.match("(dense|MoE) d16", browser.find_element(By.CSS_SELECTOR, ".tip").text)
    assert complaints(browser) == []


def test_mlflows_comparison_opens_on_accuracy_and_both_sizes_and_holds_the_report(here, browser, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-u", "-m", "sweeps.cli", "ui", "quickstart", "--port", str(port)]
    server = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        links = {}
        while len(links) < 2:
            if found := re.match(r"compare quickstart, parrots/(\w+): (http://127\.0\.0\.1:\S+)", server.stdout.readline()):
                links[found[1]] = found[2]
        wait_until_up(port)
        browser.set_window_size(1500, 1200)
        browser.get(links["phonebook"])
        wait = WebDriverWait(browser, 60)
        wait.until(lambda b: "Comparing 6 Runs from 1 Experiment" in b.find_element(By.TAG_NAME, "body").text)
        axes = wait.until(lambda b: [t.text for t in b.find_elements(By.CSS_SELECTOR, "svg .axis-title")])
        assert {"N_active", "N_total", "exact_match"} <= set(axes)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        (sweep,) = client.search_runs([client.get_experiment_by_name("parrots/sweeps").experiment_id])
        served = Path(client.download_artifacts(sweep.info.run_id, "report/report.html", tmp_path))
        assert served.read_bytes() == (here / "results/reports/quickstart/report.html").read_bytes()
    finally:
        server.terminate()
        server.wait(30)


def wait_until_up(port: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError("MLflow did not come up")
