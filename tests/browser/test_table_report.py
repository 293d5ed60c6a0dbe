"""The report of somebody's table as a person sees it: the papers' figures, their claims, what could not be drawn."""

import json
import subprocess
import sys

import pytest
from selenium.webdriver.common.by import By

from ..analysis.tables import language_models
from .conftest import complaints


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    language_models().to_csv(folder / "models.csv", index=False)
    command = [sys.executable, "-m", "sweeps.cli", "report", "models.csv", "--of", "parrots"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=400)
    return (folder / "results/reports/models/report.html").absolute().as_uri()


@pytest.mark.parametrize("width", [1200, 390])
def test_figures_of_the_paper_are_seen_and_what_is_absent_can_be_opened(page, browser, width):
    browser.set_window_size(width, 900)
    browser.get(page)
    ids = [figure.get_attribute("id") for figure in browser.find_elements(By.CSS_SELECTOR, "figure")]
    assert {"figure1", "figure5", "figure6", "figure7", "figure12"} <= set(ids)
    figures = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert all(one.is_displayed() and one.size["width"] >= 600 and one.size["height"] > 150 for one in figures)
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".verdict")
    assert len(verdicts) == 11
    assert all(one.is_displayed() and one.size["width"] <= width for one in verdicts)
    details = browser.find_element(By.CSS_SELECTOR, "details.absent")
    details.find_element(By.TAG_NAME, "summary").click()
    assert "figure 4a: no column 'entries_90'" in details.text
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints(browser) == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith(("file:", "data:")) for url in urls)
