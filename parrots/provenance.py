"""What made a number: commit, versions, hardware. Travels with each record."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "pyarrow", "ray", "mlflow")


@lru_cache(maxsize=1)
def commit() -> str:
    """The git commit of this code, with `+` if the tree differs from it; empty outside a checkout."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        words = ("git", *args)  # those below, and none from outside
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)  # nosec B603
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        return head + "+" if head and git("status", "--porcelain", "--untracked-files=no", "..") else head
    except FileNotFoundError:  # no git on this machine
        return ""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what computes; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def processor() -> str:
    """The CPU as it names itself, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {cores()} cores"


def hardware(device: str) -> str:
    """What computes on this device, as its maker calls it."""
    import torch

    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{processor()}, {torch.get_num_threads()} threads"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
