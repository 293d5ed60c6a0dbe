"""`parrots export`: a trained model for transformers, or the runs of an MLflow store as a table."""

from pathlib import Path

import click

from sweeps import ledger, trials
from sweeps.say import out
from sweeps.verbs.options import results_option

TABLE = Path("runs.csv")


@click.command()
@click.argument("what", metavar="TRIAL_ID FOLDER | --from-mlflow [FILE]", nargs=-1)
@results_option
@click.option("--from-mlflow", is_flag=True, help="Write the runs of an MLflow store into FILE, by default runs.csv.")
@click.option("--store", metavar="URI", help="That store.  [default: that of the results, or $MLFLOW_TRACKING_URI]")
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Of it; several times.  [default: all]")
def export(what: tuple[str, ...], results: Path, from_mlflow: bool, store: str | None, experiments: tuple[str, ...]) -> None:
    """Write the trained model of TRIAL_ID into FOLDER, for transformers and whatever builds on it (vLLM, lm_eval, trl).

    TRIAL_ID: its first characters are enough. The report's trials.csv and MLflow's tags have it. With --from-mlflow, write a
    table of runs (CSV, TSV, Parquet, JSONL) for `parrots fit`, `compare`, `claims` and `report`.
    """
    if from_mlflow:
        if len(what) > 1:
            raise click.UsageError("--from-mlflow takes one FILE")
        export_runs(Path(what[0]) if what else TABLE, results, store, experiments)
        return
    if store or experiments:
        raise click.UsageError("--store and --experiment go with --from-mlflow")
    if len(what) != 2:
        raise click.UsageError("name a TRIAL_ID and a FOLDER, or --from-mlflow and a FILE")
    export_model(what[0], Path(what[1]), results)


def export_runs(path: Path, results: Path, store: str | None, experiments: tuple[str, ...]) -> None:
    """The table of an MLflow store, written."""
    from sweeps.exported import table, write
    from sweeps.tracking import store_uri

    uri = store or store_uri(results)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():  # or MLflow would make one
        raise ValueError(f"no MLflow store at {uri}; `parrots run SWEEP` makes one, and --store names another")
    frame = table(uri, experiments)
    write(frame, path)
    out.print(f"{len(frame)} runs with {len(frame.columns)} columns in {path}")


def export_model(trial_id: str, folder: Path, results: Path) -> None:
    """The weights of a trial as a Hugging Face folder."""
    from parrots.models import hf
    from parrots.record import weights_sha256
    from parrots.training import weights

    found = sorted(one for one in ledger.read(results).done if one.startswith(trial_id))
    if len(found) != 1:
        raise ValueError(f"{len(found)} trials in {results} begin with {trial_id!r}; one has to")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    kept = weights.path_of(found[0], results / "weights")
    if not kept.exists():
        raise ValueError(f"no weights of {found[0]} in {results}; its sweep kept none, or it diverged")
    trial = trials.trial(found[0], results)
    hf.export(weights.load(trial, kept, weights_sha256(trial.id, results)), folder, trial.task.vocabulary)
    out.print(f"{trial.task.kind} {trial.name} as {hf.model_type(trial.model)} in {folder}")
