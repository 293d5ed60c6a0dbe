"""The benchmarks run: their first shape, timed once. What they say is measured elsewhere (benchmarks/results)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .analysis.published import CHINCHILLA, needs_runs

ROOT = Path(__file__).parent.parent


def bench(script: str, *args: str) -> str:
    """The table that it prints."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, f"benchmarks/{script}.py", *args]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


ALONE = ["train_step", "decode", "evaluation", "moe_ffn", "stacked", "mfu", "generate", "path_lengths", "mlflow"]


@pytest.mark.parametrize(
    ("script", "more"),
    [
        *((script, ()) for script in ALONE),
        pytest.param("fit", ("--runs", str(CHINCHILLA)), marks=needs_runs),
    ],
)
def test_a_benchmark_runs_and_keeps_what_it_prints(script, more, tmp_path):
    printed = bench(script, "--smoke", *more, "--out", str(tmp_path / "table.md"))
    assert printed == (tmp_path / "table.md").read_text()
    header, _, row = [line for line in printed.splitlines() if line.startswith("|")][:3]
    assert header.count("|") == row.count("|")


def test_every_table_of_the_h200_runs_in_one_call(tmp_path):
    """Those that no other test runs; elsewhere each stands for itself."""
    printed = bench("h200", "--smoke", "--only", "mfu", "--out", str(tmp_path / "h200.md"))
    assert printed.strip() == (tmp_path / "h200.md").read_text().strip()
    assert "| 64 | 1 | 2 |" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_no_table_of_the_h200_is_measured():
    tables = bench("h200").split("# ")[1:]
    assert len(tables) == 14
    assert all("not measured (no GPU here)" in table for table in tables)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_mfu_is_not_measured():
    rows = [line for line in bench("mfu").splitlines() if line.startswith(("| 2048 ", "| 1024 "))]
    assert len(rows) == 2
    assert all("not measured (no GPU here)" in row for row in rows)


def test_flops_of_mfu_are_those_of_the_matrices_and_of_causal_attention(monkeypatch):
    """Dense, by hand: 3 d^2 of attention (half as many key-value heads) and 3 d^2 of FFN a layer, and the head."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import mfu

    dense, sparse = mfu.shapes(smoke=False)
    L, S, V = 20, 2048, 32_000
    assert mfu.flops(dense) == dense.batch * S * (6 * (L * 6 * 2048**2 + V * 2048) + 6 * L * S * 2048)
    assert mfu.flops(sparse) == sparse.batch * S * (6 * (L * (9 * 1024**2 + 8 * 1024) + V * 1024) + 6 * L * S * 1024)
