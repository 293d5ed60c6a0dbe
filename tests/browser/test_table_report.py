"""The report of somebody's table as a person sees it: the papers' figures, their claims, what could not be drawn."""

import json

import pytest
from selenium.webdriver.common.by import By

from analysis.paper_claims import PARROTS
from analysis.report import Asked, write

from ..analysis.tables import described_models
from .conftest import complaints


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    claims = [one for one in PARROTS if one.name in ("figure1a", "section4-2")]
    asked = Asked("mine", "Runs of mine.csv", claims, (), "parrots report mine.csv", table=described_models())
    return write([asked], tmp_path_factory.mktemp("results")).html.absolute().as_uri()


@pytest.mark.parametrize("width", [1200, 390])
def test_figures_of_the_paper_are_seen_and_what_is_absent_can_be_opened(page, browser, width):
    browser.set_window_size(width, 900)
    browser.get(page)
    ids = [figure.get_attribute("id") for figure in browser.find_elements(By.CSS_SELECTOR, "figure")]
    assert {"figure1", "figure5", "figure6", "figure7", "figure12"} <= set(ids)
    figures = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert all(one.is_displayed() and one.size["width"] >= 600 and one.size["height"] > 150 for one in figures)
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".verdict")
    assert [one.text.split("\n")[0].split(": ")[-1] for one in verdicts] == ["supported", "undecided"]
    assert all(one.is_displayed() and one.size["width"] <= width for one in verdicts)
    details = browser.find_element(By.CSS_SELECTOR, "details.absent")
    details.find_element(By.TAG_NAME, "summary").click()
    assert "figure 4a: no column 'entries_90'" in details.text
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints(browser) == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith(("file:", "data:")) for url in urls)
