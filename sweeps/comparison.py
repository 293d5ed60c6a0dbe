"""The page on which MLflow compares a sweep's runs, set up beforehand: columns, order, parallel coordinates, scores by size.

MLflow keeps the state of a page that somebody shares as a tag of the experiment, under a key that the address names. So the
address is short, whoever opens it sees the same, and what they change is theirs. The page takes a hundred runs at once, so of
more it shows the best; all are on its other one, whose address names each run, up to a thousand, and on `parrots board`.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

AT_ONCE = 100  # runs that MLflow's page takes (3.17)
NAMED = 1000  # runs that an address names, in 44 characters each: browsers and terminals take no address of any length
STATE = "mlflow.sharedViewState."
AXES = 7
FIRST = ("d_model", "n_layers", "d_ff", "n_experts", "lr")


def links(client: Any, experiment: Any, sweep: str, runs: Sequence[Any], base: str) -> dict[str, str]:
    """Addresses by what they show, the one that is set up first; that is kept in the experiment."""
    key, at = f"parrots-{sweep}", experiment.experiment_id
    client.set_experiment_tag(at, f"{STATE}{key}", json.dumps(state(sweep, runs), separators=(",", ":")))
    page = f"{base}/#/experiments/{at}/runs?viewStateShareKey={quote(key)}&compareRunsMode=CHART"
    if len(runs) <= AT_ONCE:
        return {experiment.name: page}
    if len(runs) > NAMED:
        return {f"{experiment.name}, the best {AT_ONCE} of {len(runs)} runs (`parrots board {sweep}` shows all)": page}
    ids = quote(json.dumps([run.info.run_id for run in runs]))
    return {
        f"{experiment.name}, the best {AT_ONCE} runs": page,
        f"{experiment.name}, all {len(runs)}": f"{base}/#/compare-runs?runs={ids}&experiments={quote(json.dumps([at]))}",
    }


def state(sweep: str, runs: Sequence[Any]) -> dict[str, Any]:
    """What MLflow's page shows: the runs of this sweep by their score, with what tells them apart."""
    score, axes = main_score(runs), telling(runs)
    sizes = ("N_total", "N_active")
    columns = [f"metrics.`{score}`", *(f"params.`{name}`" for name in (*sizes, *axes)), "metrics.`loss`", "metrics.`train_s`"]
    across, by_size = unique("across", sweep), unique("size", sweep)
    charts: list[dict[str, Any]] = [
        {"type": "PARALLEL", "selectedParams": [*axes, *sizes], "selectedMetrics": [score], "showAllRuns": True}
    ]
    for size in sizes:
        x, y = {"key": size, "type": "PARAM"}, {"key": score, "type": "METRIC"}
        charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    for k, chart in enumerate(charts):
        chart |= {"uuid": unique(sweep, str(k)), "metricSectionId": by_size if k else across, "runsCountToCompare": AT_ONCE}
        chart |= {"deleted": False, "isGenerated": False}
    sections = [
        {"uuid": across, "name": sweep, "display": True, "isReordered": True, "columns": 1, "cardHeight": 400},
        {"uuid": by_size, "name": f"{score} by size", "display": True, "isReordered": True, "columns": 2, "cardHeight": 400},
    ]
    return {
        "searchFilter": f"tags.`sweep.{sweep}` = 'yes'",
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": score == "loss",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": False,
        "autoRefreshEnabled": True,
    }


def main_score(runs: Sequence[Any]) -> str:
    """What their task measures first."""
    from parrots.tasks import task_from

    kinds = [json.loads(run.inputs.dataset_inputs[0].dataset.source)["task"] for run in runs if run.inputs.dataset_inputs]
    return str(task_from(json.loads(kinds[0])).metrics[0]) if kinds else "loss"


def telling(runs: Sequence[Any]) -> list[str]:
    """Parameters with several values among the runs, the best known first; sizes follow from them."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.data.params.items():
            values.setdefault(name, set()).add(value)
    derived = re.compile("N_|total_|active_|tokens|flops|workers|seed|top_k|.*kind$")
    varying = sorted(name for name, some in values.items() if len(some) > 1 and not derived.match(name))
    return [*(name for name in FIRST if name in varying), *(name for name in varying if name not in FIRST)][:AXES]


def unique(*of: str) -> str:
    """An id that MLflow's page takes for one of its own, and the same each time."""
    return hashlib.sha256("/".join(of).encode()).hexdigest()[:21]
