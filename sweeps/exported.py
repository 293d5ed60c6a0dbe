"""The runs of an MLflow store as one table, which `analysis.load` reads: a row a run, its parameters, its last metrics.

For those who keep their runs in MLflow. MLflow has no standard errors and no counts, so a table of ours says less than
the records do.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parrots.atomic import atomic
from parrots.keys import covered
from sweeps import tracked

if TYPE_CHECKING:
    import pandas as pd

STATES = {"FINISHED": "done", "FAILED": "failed", "KILLED": "stopped"}
UNFINISHED = "missing"
APART = ("lr", "seed", "workers")
"""Parameters in which two runs may differ and still be of one configuration."""


def table(uri: str, experiments: Sequence[str] = ()) -> "pd.DataFrame":
    """Every run of these experiments, or of all but those of sweeps; ValueError names an experiment that is not there."""
    import pandas as pd
    from mlflow import MlflowClient

    from sweeps.tracking import SWEEPS, answering

    with answering(uri):
        client = MlflowClient(tracking_uri=uri)
        there = {one.name: one.experiment_id for one in client.search_experiments()}
    for name in experiments:
        if name not in there:
            raise ValueError(f"no experiment {name!r} in {covered(uri)}; there are {', '.join(sorted(there))}")
    wanted = experiments or [name for name in there if name != SWEEPS]
    with answering(uri):
        rows = [row(run, name) for name in wanted for run in tracked.runs(client, there[name])]
    if not rows:
        raise ValueError(f"no runs in {', '.join(wanted) or 'any experiment'} of {covered(uri)}")
    return pd.DataFrame(rows)


def row(run: Any, experiment: str) -> dict[str, Any]:
    """One run: what it is, its parameters as numbers where they are, its metrics' last values.

    Names that are taken get MLflow's own prefix, as `params.status`.
    """
    params = {key: _number(value) for key, value in run.data.params.items()}
    tags, state = run.data.tags, STATES.get(run.info.status, UNFINISHED)
    task = experiment.removeprefix("parrots/")
    same = {key: value for key, value in sorted(params.items()) if key not in APART}
    about = {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "task": task,
        "status": tags.get("status", state),
        "reason": "" if state == "done" else f"MLflow says {run.info.status.lower()}",
        **{name: tags[name] for name in ("trial_id", "sweep") if name in tags},
        "configuration": json.dumps({"task.kind": task} | same),
    }
    told = about | {f"params.{key}" if key in about else key: value for key, value in params.items()}
    return told | {f"metrics.{key}" if key in told else key: value for key, value in run.data.metrics.items()}


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write(frame: "pd.DataFrame", path: Path) -> None:
    """As CSV, TSV, Parquet or JSONL, by the file's ending."""
    writers = {
        ".csv": lambda sink: frame.to_csv(sink, index=False),
        ".tsv": lambda sink: frame.to_csv(sink, index=False, sep="\t"),
        ".parquet": lambda sink: frame.to_parquet(sink, index=False),
        ".jsonl": lambda sink: frame.to_json(sink, orient="records", lines=True),
    }
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path}: {path.suffix or 'a name without an ending'} is not written; {', '.join(writers)} are")
    with atomic(path) as sink:
        writers[path.suffix.lower()](sink)
