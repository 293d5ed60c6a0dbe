"""Headless Chromium, and a sweep to look at."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DRIVER = shutil.which("chromedriver")
FLAGS = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update"]
FLAGS += ["disable-sync", "disable-dev-shm-usage"]


@pytest.fixture
def browser():
    if DRIVER is None:
        pytest.skip("no chromedriver on the PATH (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def here(tmp_path_factory) -> Path:
    """A folder in which quickstart was run at its smallest: its cells without Ray, then their mirror and report."""
    folder = tmp_path_factory.mktemp("user")
    common = {"cwd": folder, "check": True, "timeout": 400}
    ours = [sys.executable, "-m", "sweeps.cli"]
    with (folder / "cells.jsonl").open("w") as cells:
        subprocess.run([*ours, "plan", "quickstart", "--scale", "smoke", "--jsonl"], stdout=cells, **common)
    alone = [sys.executable, "-m", "parrots.run", "cells.jsonl", "--out", "results"]
    for command in (alone, [*ours, "run", "quickstart", "--scale", "smoke"]):
        subprocess.run(command, capture_output=True, **common)
    return folder


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def complaints(browser) -> list[str]:
    """What the console has to say."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def wait_until_up(port: int, patience_s: float = 90) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing came up on port {port}")
