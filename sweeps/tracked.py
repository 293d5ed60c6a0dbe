"""MLflow's runs, a thousand a request.

What a server says is read here, straight from its JSON: MLflow's own client makes protobuf's messages of it first, which takes
half a second of a thousand runs, and this a tenth of one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sweeps.collecting import uncollected

PAGE = 1000
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""The environment of who waits for a server: MLflow itself would try for four minutes and say nothing."""
ENDPOINT = "/api/2.0/mlflow/runs/search"


def spelled(uri: str) -> str:
    """A store's address, with our driver where it names PostgreSQL and none: SQLAlchemy's own choice is another."""
    return re.sub("^postgres(ql)?://", "postgresql+psycopg2://", uri)


def runs(client: Any, experiment_id: str, filter_string: str = "", order_by: Sequence[str] = ()) -> Iterator[Any]:
    """The `mlflow.entities.Run`s of an experiment, with the data that they name and without models."""
    asked = {"experiment_ids": [experiment_id], "order_by": list(order_by), "max_results": PAGE}
    token: str | None = None
    while True:
        with uncollected():
            if client.tracking_uri.startswith("http"):
                page, token = served(client.tracking_uri, asked | {"filter": filter_string, "page_token": token})
            else:
                page = client.search_runs(filter_string=filter_string, page_token=token, **asked)
                token = page.token
        yield from page
        if not token:
            return


def served(address: str, asked: dict[str, Any]) -> tuple[list[Any], str | None]:
    """A page of what a server finds, and where the next begins."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    answer = http_request(get_default_host_creds(address), ENDPOINT, "POST", json=asked)
    told = verify_rest_response(answer, ENDPOINT).json()
    return [run(one) for one in told.get("runs", ())], told.get("next_page_token")


def run(told: dict[str, Any]) -> Any:
    """The `mlflow.entities.Run` that a server tells of; it leaves out what is empty."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunData, RunInfo, RunInputs, RunTag

    data = told.get("data", {})
    metrics = [Metric(one["key"], float(one["value"]), one["timestamp"], one["step"]) for one in data.get("metrics", ())]
    params = [Param(one["key"], one["value"]) for one in data.get("params", ())]
    tags = [RunTag(one["key"], one["value"]) for one in data.get("tags", ())]
    inputs = []
    for one in told.get("inputs", {}).get("dataset_inputs", ()):
        of = Dataset(*map(one["dataset"].get, ("name", "digest", "source_type", "source", "schema", "profile")))
        inputs.append(DatasetInput(of, [InputTag(tag["key"], tag["value"]) for tag in one.get("tags", ())]))
    about = ("run_id", "experiment_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri")
    info = RunInfo(*map(told["info"].get, about), told["info"].get("run_name"))
    return Run(info, RunData(metrics, params, tags), RunInputs(inputs))
