"""Records as one typed frame: a row a trial, its declared fields, its counts, its final metrics.

What is missing is missing with a reason: a failed trial has a row, a status and no metric.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from parrots.frozen import canonical, one_line
from parrots.record import STATUSES, evaluations_of, failures_of, path_of, read
from parrots.spec import Trial

CURVE = "loss"  # measured along the way, as are the gradients' norm and the state of the routers; all else at the last step
CEILINGS = {"exact_match": "tie_ceiling"}
"""What somebody who finds every answer and guesses which is meant would score, where a task measures it beside a score."""
CURVES = ["trial_id", "metric", "step", "value"]
CHOOSERS = {"validation_loss": "validation loss", CURVE: "final training loss"}
"""What chooses a learning rate: the first of these that was measured, at its lowest."""
KEPT = ["sweep", "name", "task", "seed", "N_total", "N_active", "tokens", "flops", "status", "reason", "attempt", "workers"]
KEPT += ["started", "wall_s", "train_s", "commit", "versions", "hardware"]


def load(results: Path, trial_ids: Collection[str]) -> pd.DataFrame:
    """The trials with these ids that have a record or a failure in `results`, in the order of the ids.

    For each metric a column with its final value, `METRIC.stderr` and `METRIC.n`; nan where it was not measured. Those of an
    evaluation have its name before them, as in `regular/exact_match`.
    """
    done = [path for i in trial_ids if (path := path_of(i, results)).exists()]
    rest = set(trial_ids) - {path.stem for path in done}
    failed = {i: tries[-1] for i in rest if (tries := failures_of(i, results))}
    asked = [path for one in done for path in evaluations_of(one.stem, results)]
    rows = read([*done, *failed.values(), *asked]).to_pandas()
    there = set(rows["trial_id"])
    return trials(rows).reindex([i for i in trial_ids if i in there])


def trials(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a trial of the record's rows, with index trial_id."""
    named = rows["evaluation"].where(rows["evaluation"] == "", rows["evaluation"] + "/")
    rows = rows.assign(metric=named + rows["metric"]).sort_values("evaluation", kind="stable")
    about = rows.groupby("trial_id", sort=False).first()
    frame = about[KEPT].copy()
    frame["status"] = pd.Categorical(frame["status"], categories=list(STATUSES))
    declared = pd.DataFrame({i: _declared(i, text) for i, text in about["trial"].items()}).T
    frame = frame.join(declared.infer_objects())
    for _, some in frame.groupby("task") if len(frame) else ():
        if some["n_layers"].nunique() > 1:
            frame.loc[some.index, "label"] = some["label"] + "-L" + some["n_layers"].astype(str)
    last = rows.dropna(subset="metric").sort_values("step").groupby(["trial_id", "metric"]).last()
    measured: dict[str, pd.Series] = {}
    for metric in last.index.unique("metric"):
        final = last.xs(metric, level="metric")
        measured |= {metric: final["value"], f"{metric}.stderr": final["stderr"], f"{metric}.n": final["n"]}
    return frame.join(pd.DataFrame(measured, index=frame.index))


def _declared(trial_id: str, text: str) -> dict[str, Any]:
    """The fields of a trial that an analysis groups or colours by."""
    try:
        trial = Trial.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"record {trial_id} is of another version ({one_line(error)}); delete it to make it again") from error
    text = json.dumps(trial.model_dump(mode="json"))  # defaults written out: a claim may ask for any field
    said = canonical(trial)
    said["training"] = {k: v for k, v in said["training"].items() if k != "lr"}
    said.pop("seed", None)
    model = trial.model
    return {
        "configuration": json.dumps(said, sort_keys=True),
        "declared": text,
        "label": model.name if (router := getattr(model.ffn, "router", "top_k")) == "top_k" else f"{model.name}-{router}",
        "kind": "MoE" if model.n_experts > 1 else "dense",
        "d_model": model.d_model,
        "n_layers": model.n_layers,
        "d_ff": model.ffn.d_ff,
        "n_experts": model.n_experts,
        "top_k": model.top_k,
        "lr": trial.training.lr,
        "exposures": trial.training.steps * trial.training.batch_size / trial.task.n_examples("train"),
    }


def curves(results: Path, trial_ids: Collection[str]) -> pd.DataFrame:
    """What was measured along the way, the loss and the state of the routers: columns trial_id, metric, step, value."""
    rows = read(path for i in trial_ids if (path := path_of(i, results)).exists()).to_pandas()
    along = (rows["metric"] == CURVE) | rows["metric"].str.startswith("router_", na=False)
    return rows.loc[along, CURVES]


def choosers(frame: pd.DataFrame) -> dict[str, str]:
    """Of each task, the column whose lowest value chooses a learning rate: one that all of its finished runs have."""

    def of(runs: pd.DataFrame) -> str:
        done = runs[runs["status"] == "done"]
        return next((name for name in CHOOSERS if name in done and len(done) and done[name].notna().all()), CURVE)

    return {task: of(runs) for task, runs in frame.groupby("task", sort=False)}


def several_rates(frame: pd.DataFrame) -> bool:
    """Whether a configuration was trained at several learning rates, so that there is one to choose."""
    return bool((frame.groupby("configuration")["lr"].nunique() > 1).any())


def with_best_lr(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials of each configuration at its best learning rate: the lowest loss of `choosers`, averaged over seeds.

    The score itself has no say, so choosing does not flatter it. A diverged trial loses the choice; a configuration whose
    trials all diverged keeps none, and is missing not at random. A table without learning rates has nothing to choose, nor has
    one of a single rate each; ValueError where rates differ and no run has a loss.
    """
    done = frame["status"] == "done"
    if frame["lr"].isna().all():
        return frame[done]
    measured = pd.Series(float("nan"), frame.index)
    for task, column in choosers(frame).items():
        measured = measured.where(frame["task"] != task, frame[column])
    if done.any() and measured[done].isna().all():
        if several_rates(frame):
            raise ValueError(
                "learning rates differ, and no run has a loss to choose by; say which column is, with --map loss=COLUMN"
            )
        measured = measured.fillna(0.0)
    loss = measured.where(done, float("inf"))
    usable = loss.notna() & frame["status"].isin(["done", "diverged"])
    mean = loss[usable].groupby([frame["configuration"], frame["lr"]]).mean()
    best = mean[mean < float("inf")].groupby("configuration").idxmin()
    chosen = pd.MultiIndex.from_frame(frame[["configuration", "lr"]]).isin(list(best))
    return frame[chosen & done]
