"""The report as a person sees it, in headless Chromium."""

import re

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from .conftest import complaints


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
