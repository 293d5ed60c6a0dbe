"""Fit what a plan's times are made of to the records of this machine, and write sweeps/calibration.json.

    python benchmarks/calibrate.py results

Least squares of relative errors with coefficients that are not negative, over every finished one-worker record. Prints the
spread of actual over planned.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from parrots.record import read
from parrots.spec import Trial
from sweeps.plan import CALIBRATION, quantities


def main(results: Path) -> None:
    """Calibrate from one results folder."""
    rows = read((results / "records").glob("*.parquet")).select(
        ["trial_id", "trial", "train_s", "workers", "status", "hardware"]
    )
    frame = rows.to_pandas().drop_duplicates("trial_id")
    frame = frame[(frame["workers"] == 1) & (frame["status"] == "done")]
    amounts = [quantities(Trial.model_validate_json(text)) for text in frame["trial"]]
    names = list(amounts[0])
    took = frame["train_s"].to_numpy()
    matrix = np.array([[amount[name] for name in names] for amount in amounts]) / took[:, None]
    scale = matrix.max(0)
    found, _ = nnls(matrix / np.where(scale, scale, 1), np.ones(len(took)))
    per = {name: float(f"{value / size if size else 0:.4g}") for name, value, size in zip(names, found, scale, strict=True)}
    ratio = 1 / (matrix @ np.array(list(per.values())))
    (hardware,) = frame["hardware"].unique()
    written = {"hardware": hardware, "date": f"{datetime.now(UTC):%Y-%m-%d}", "trials": len(frame), "seconds_per": per}
    CALIBRATION.write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written, indent=1))
    low, middle, high = np.percentile(ratio, [5, 50, 95])
    print(f"actual / planned: median {middle:.2f}, 90 % between {low:.2f} and {high:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
