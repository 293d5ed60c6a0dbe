"""The runs that others published, which lie beside a checkout in ../shared/data or where $PARROTS_SHARED says."""

import os
from pathlib import Path

import pytest

import analysis

SHARED = Path(os.environ.get("PARROTS_SHARED", Path(__file__).parents[3] / "shared"))
RUNS = SHARED / "data" / "scaling_laws"
CHINCHILLA = RUNS / "chinchilla" / "svg_extracted_data.csv"
CLARK = RUNS / "clark2022" / "curves_sbase_dense.csv"
CLARKS = {"N": "dense_parameter_count", "E": "num_experts", "loss": "loss_validation"}
LAST = "step == 249000 and k == 1 and routing_frequency == 0.5"

needs_runs = pytest.mark.skipif(not RUNS.exists(), reason=f"no published runs in {RUNS}; set $PARROTS_SHARED")


def chinchilla():
    return analysis.load(CHINCHILLA, {"N_total": "Model Size", "C": "Training FLOP", "loss": "loss"})


def clark():
    return analysis.load(CLARK, CLARKS, LAST)


def gemstones(which: str):
    file = RUNS / "gemstones" / f"wandb_df_for_fitting_{which}.jsonl"
    named = {"N": "params_active_precise", "D": "tokens", "loss": "final_loss"}
    return analysis.load(file, named)
