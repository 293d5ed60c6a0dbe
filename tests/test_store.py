"""An object store in place of a folder that machines share: what counts is in it, and what is in it counts."""

import json
import shutil
import socket
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread, Timer

import numpy as np
import pytest
import torch

from parrots import run, store
from parrots.execution import about, catch_up, endeavour, evaluate, run_trial
from parrots.frozen import canonical_json
from parrots.placement import Placement
from parrots.record import is_done, path_of, read
from parrots.spec import Cell, Evaluation
from parrots.store import Store, checked
from parrots.training import checkpoint, fits
from parrots.training.checkpoint import State
from sweeps import index
from sweeps.spec import Sweep, load
from sweeps.verbs.status import forget

from .conftest import GRAPHS, make
from .object_store import SECRET

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def machine(s3, tmp_path):
    """Makes machines, each with an empty disk of its own: the store beside their results."""

    def made(name: str) -> Store:
        (tmp_path / name).mkdir()
        return Store(s3.uri(tmp_path.name), tmp_path / name)

    return made


@pytest.fixture
def google(tmp_path, monkeypatch):
    """As `machine`, beside a bucket of a GCS server, whose client needs no credentials."""
    from gcp_storage_emulator.server import create_server
    from pyarrow.fs import GcsFileSystem

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="parrots")
    server.start()
    client = GcsFileSystem(anonymous=True, scheme="http", endpoint_override=f"127.0.0.1:{port}")
    monkeypatch.setattr(store, "opened", lambda uri: (client, uri.removeprefix("gs://")))

    def made(name: str) -> Store:
        (tmp_path / name).mkdir()
        return Store("gs://parrots/results", tmp_path / name)

    yield made
    server.stop()


class Denies(BaseHTTPRequestHandler):
    """What S3 answers to whom a bucket is closed."""

    def deny(self) -> None:
        self.send_response(403)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

    do_GET = do_HEAD = do_PUT = do_POST = deny

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def closed():
    """The address of a bucket that is closed to us."""
    server = HTTPServer(("127.0.0.1", 0), Denies)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"s3://parrots/results?scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
    server.shutdown()


def place(there: Store, **more) -> Placement:
    return replace(Placement(there.results / "data", there.results / "weights", store=there, **more).lasting(there.results))


def test_what_one_machine_sends_another_brings_whole(machine):
    one, other = machine("one"), machine("other")
    for name, size in (("empty", 0), ("small", 1000), ("in parts", 12_000_000)):
        content = np.random.default_rng(size).bytes(size)
        (one.results / name).write_bytes(content)
        assert not other.has(other.results / name)
        assert not other.get(other.results / name)
        one.put(one.results / name)
        assert other.has(other.results / name)
        assert other.share(other.results / name)
        assert (other.results / name).read_bytes() == content


def test_google_s_store_does_what_amazon_s_does(google):
    one, other = google("one"), google("other")
    one.check()
    for name, size in (("empty", 0), ("small", 1000), ("in parts", 20_000_000)):
        content, path, there = (
            np.random.default_rng(size).bytes(size),
            one.results / "data" / name,
            other.results / "data" / name,
        )
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        assert not other.get(there)
        one.put(path)
        assert other.share(there)
        assert there.read_bytes() == content
    saved(one, 1, 2, 3)
    folder, here = saved(other)
    assert [path.name for path in checkpoint._stored(folder, other)] == ["2", "3"]
    assert checkpoint.newest(folder, here).name == "3"
    for _ in range(2):
        checkpoint.drop(folder, here)
        assert not other.inside(folder)
    assert [path.name for path in one.inside(one.results / "data")] == ["empty", "in parts", "small"]


def test_a_file_of_one_side_is_then_on_both_and_a_deleted_one_on_neither(machine, s3, tmp_path):
    there = machine("one")
    path = there.results / "failures" / "a-1.parquet"
    assert not there.share(path)
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert there.share(path)
    assert s3.keys(tmp_path.name) == ["failures/a-1.parquet"]
    there.delete(path)
    there.delete(path.parent)
    assert s3.keys(tmp_path.name) == []


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://parrot:{SECRET}@bucket/results",
        f"gs://{SECRET}@bucket",
        f"s3://bucket/results?access_key=parrot&secret_key={SECRET}",
        "s3:///results",
        "s3://bucket/../results",
        "https://bucket.s3.amazonaws.com/results",
        "file:///shared/results",
        "/shared/results",
        "s3://[bucket/results",
    ],
)
def test_an_address_with_credentials_or_of_another_kind_is_refused_and_not_repeated(uri, tmp_path, capsys):
    with pytest.raises(ValueError, match="address") as refused:
        checked(uri)
    assert SECRET not in str(refused.value)
    (tmp_path / "cells.jsonl").write_text(canonical_json(Cell(trial=make())) + "\n")
    assert run.main([str(tmp_path / "cells.jsonl"), "--out", str(tmp_path / "out"), "--store", uri]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert SECRET not in said.out + said.err


def test_a_name_that_leads_out_of_the_folder_is_refused(machine, s3, tmp_path):
    there = machine("one")
    s3.write(f"{tmp_path.name}/records/../../stolen", b"x")
    with pytest.raises(ValueError, match="no name of ours"):
        there.fetch("records")
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("wrong", ["bucket", "server", "permission"])
def test_a_store_that_cannot_be_used_is_told_in_one_line_before_anything_runs(s3, closed, tmp_path, capsys, wrong):
    uri = s3.uri("results", bucket="no-such-bucket")
    if wrong == "server":
        uri = "s3://parrots/results?scheme=http&endpoint_override=127.0.0.1:9"
    if wrong == "permission":
        uri = closed
    (tmp_path / "cells.jsonl").write_text(canonical_json(Cell(trial=make())) + "\n")
    assert run.main([str(tmp_path / "cells.jsonl"), "--out", str(tmp_path / "out"), "--store", uri]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: store {uri}: ")
    assert {"bucket": "no such bucket", "server": "connect", "permission": "ACCESS_DENIED"}[wrong] in line
    assert said.out == ""
    assert not list((tmp_path / "out").rglob("*.*"))


def test_what_is_done_on_one_machine_is_done_on_another(machine, s3, tmp_path, capsys):
    one, other = machine("one"), machine("other")
    trial = make()
    (tmp_path / "cells.jsonl").write_text(canonical_json(Cell(trial=trial)) + "\n")
    words = [str(tmp_path / "cells.jsonl"), "--store", one.uri]
    assert run.main([*words, "--out", str(one.results)]) == 0
    assert s3.keys(tmp_path.name) == [f"records/{trial.id}.parquet", f"weights/{trial.id}.safetensors"]
    capsys.readouterr()
    assert run.main([*words, "--out", str(other.results)]) == 0
    assert "1 have their record, 0 to run" in capsys.readouterr().out
    assert path_of(trial.id, other.results).read_bytes() == path_of(trial.id, one.results).read_bytes()


def test_what_was_there_before_there_was_a_store_is_sent_with_its_weights(machine, s3, tmp_path):
    there, trial = machine("one"), make()
    run_trial(trial, Placement(there.results / "data", there.results / "weights")).write(there.results)
    catch_up([Cell(trial=trial)], there.results, there)
    assert s3.keys(tmp_path.name) == [f"records/{trial.id}.parquet", f"weights/{trial.id}.safetensors"]


def test_attempts_of_all_machines_are_counted(machine):
    one, other, trial = machine("one"), machine("other"), make(steps=10**6)
    for there in (one, other):
        (there.results / "data").write_text("where data should go")  # so it fails
        endeavour(Cell(trial=trial), there.results, place(there), "s")
    rows = read(sorted((other.results / "failures").glob("*.parquet"))).to_pylist()
    assert [row["attempt"] for row in rows] == [1, 2]
    catch_up([Cell(trial=trial)], one.results, one)
    assert about(trial, one.results, "s")["attempt"] == 3


@pytest.mark.parametrize("how", [lambda cell, there: catch_up([cell], there.results, there), lambda _, there: there.exchange()])
def test_what_was_retried_on_one_machine_counts_on_no_other(machine, s3, tmp_path, how):
    one, other, cell = machine("one"), machine("other"), Cell(trial=make())
    failure = f"failures/{cell.trial.id}-1.parquet"
    (one.results / "data").write_text("where data should go")  # so it fails
    endeavour(cell, one.results, place(one), "s")
    catch_up([cell], other.results, other)
    forget([cell], one.results, one)
    how(cell, other)
    assert failure not in s3.keys(tmp_path.name)
    assert about(cell.trial, other.results, "")["attempt"] == 1
    endeavour(cell, one.results, place(one), "s")  # under the name of the one that counts no more
    how(cell, other)
    assert (other.results / failure).read_bytes() == (one.results / failure).read_bytes()


def test_weights_of_another_attempt_give_way_to_those_of_the_record(machine, s3, tmp_path):
    one, other, trial = machine("one"), machine("other"), make(task=GRAPHS)
    asked = Cell(trial=trial, evaluations=(Evaluation(name="again", task=GRAPHS),))
    name = f"weights/{trial.id}.safetensors"
    endeavour(Cell(trial=trial), one.results, place(one), "")
    (other.results / name).parent.mkdir()
    (other.results / name).write_bytes(b"of another attempt")
    assert endeavour(asked, other.results, place(other), "") is None
    assert is_done(asked, other.results)
    s3.write(f"{tmp_path.name}/{name}", b"of a third")
    (one.results / name).unlink()
    with pytest.raises(ValueError, match="SHA-256 differs; delete its record, in the store too"):
        evaluate(trial, asked.evaluations[0], one.results, place(one))


def test_a_manifest_is_brought_when_it_has_changed_and_else_stays_as_old_as_its_index(machine):
    one, other = machine("one"), machine("other")
    cells = tuple(Cell(trial=make(seed=seed)) for seed in (0, 1))
    one.put(Sweep(name="mine", cells=cells).manifest(one.results))
    there = Sweep(name="mine", cells=cells).manifest(other.results)
    other.fetch("sweeps")
    assert len(index.read(there).entries) == 2
    one.put(Sweep(name="mine", cells=cells[:1]).manifest(one.results))
    other.fetch("sweeps")
    assert index.read(there) is None
    assert len(load(str(there), other.results).cells) == 1


@pytest.fixture
def gone(machine, closed):
    """A machine whose store has closed to it, and which does not wait for that long."""
    return replace(machine("gone").impatient, uri=closed)


def test_a_record_that_is_not_in_the_store_is_none(gone):
    record = run_trial(make(), Placement(gone.results / "data"))
    with pytest.raises(ConnectionError, match="was not sent"):
        record.write(gone.results, gone)
    assert not list((gone.results / "records").iterdir())


def test_a_store_that_stays_away_is_a_failure_of_machines_and_told_here(gone, monkeypatch):
    monkeypatch.setattr("parrots.failures.BUDGET", {"oom": 0, "infrastructure": 0, "bug": 0})
    lost = endeavour(Cell(trial=make()), gone.results, place(gone), "s")
    assert (lost.status, lost.failure) == ("failed", "infrastructure")
    (row,) = read((gone.results / "failures").glob("*.parquet")).to_pylist()
    assert row["failure"] == "infrastructure"
    assert not (gone.results / "records").exists()


def test_without_its_store_the_micro_batch_that_fitted_is_remembered_here(gone):
    trial, here = make(), place(gone)
    assert fits.known(trial, here) == 20
    fits.learn(trial, 5, here)
    assert fits.known(trial, here) == 5


def test_a_store_that_is_away_for_seconds_is_waited_for(machine, s3):
    there = machine("one")
    (there.results / "x").write_bytes(b"x")
    there.look()
    s3.pause()
    Timer(5, s3.go_on).start()
    there.put(there.results / "x")
    assert there.has(there.results / "x")


def test_errors_of_this_machine_are_not_waited_for(machine):
    there = machine("one")
    with pytest.raises(FileNotFoundError):
        there.put(there.results / "absent")


def saved(there: Store, *steps: int) -> tuple[Path, Placement]:
    """A folder with checkpoints at these steps, of a tensor that says which."""
    folder, here = there.results / "checkpoints" / "trial", place(there)
    for step in steps:
        checkpoint.save(folder, State(step, step, 0.0, {"curve": np.arange(step)}), {"x": torch.full((3,), step)}, here)
    return folder, here


def test_a_checkpoint_goes_on_where_there_is_none(machine, s3, tmp_path):
    saved(machine("one"), 1, 2, 3)
    assert {key.split("/")[2] for key in s3.keys(tmp_path.name)} == {"2", "3"}
    folder, here = saved(machine("other"))
    found, x = checkpoint.newest(folder, here), {"x": torch.zeros(3, dtype=torch.int64)}
    state = checkpoint.load(found, x, here)
    assert (state.step, x["x"].tolist(), state.arrays["curve"].tolist()) == (3, [3, 3, 3], [0, 1, 2])
    checkpoint.drop(folder, here)
    assert s3.keys(tmp_path.name) == []
    assert checkpoint.newest(folder, here) is None


@pytest.mark.parametrize(
    "how", [lambda cell, there: endeavour(cell, there.results, place(there), ""), lambda _, there: there.exchange()]
)
def test_checkpoints_that_a_lost_machine_left_beside_its_record_are_removed(machine, s3, tmp_path, how):
    one, other, trial = machine("one"), machine("other"), make()
    checkpoint.save(one.results / "checkpoints" / trial.id, State(1, 1, 0.0, {}), {"x": torch.zeros(1)}, place(one))
    run_trial(trial, Placement(one.results / "data")).write(one.results, one)
    how(Cell(trial=trial), other)
    assert s3.keys(tmp_path.name) == [f"records/{trial.id}.parquet"]


def test_a_checkpoint_from_before_there_was_a_store_is_not_lost(machine, s3, tmp_path):
    there = machine("one")
    folder, here = there.results / "checkpoints" / "trial", place(there)
    alone = replace(here, store=None)
    checkpoint.save(folder, State(7, 7, 0.0, {"curve": np.arange(3)}), {"x": torch.zeros(3)}, alone)
    assert checkpoint.newest(folder, here).name == "7"
    other, here = saved(machine("other"))
    assert checkpoint.newest(other, here).name == "7"


def test_where_the_store_has_bad_checkpoints_only_one_that_is_left_here_is_taken(machine, s3, tmp_path):
    there = machine("one")
    saved(there, 9)
    torn(s3, f"{tmp_path.name}/checkpoints/trial/9/__0_0.distcp")
    shutil.rmtree(there.results / "checkpoints")
    folder, here = there.results / "checkpoints" / "trial", place(there)
    checkpoint.save(folder, State(7, 7, 0.0, {}), {"x": torch.zeros(3)}, replace(here, store=None))
    assert checkpoint.newest(folder, here).name == "7"
    other, here = saved(machine("other"))
    assert checkpoint.newest(other, here).name == "7"


def torn(server, key: str) -> None:
    server.write(key, server.read(key)[:-1])


def forged(server, key: str) -> None:
    """Another pickle for its metadata, under a marker that has its checksum and lacks our key."""
    at = key.rpartition("/")[0]
    said = json.loads(server.read(f"{at}/{checkpoint.MARKER}"))
    said["files"][".metadata"] = checkpoint.digest(Path(__file__))
    server.write(f"{at}/{checkpoint.MARKER}", json.dumps(said).encode())
    server.write(f"{at}/.metadata", Path(__file__).read_bytes())


def moved(server, key: str) -> None:
    """The marker of another step."""
    at = key.rpartition("/")[0]
    server.write(f"{at}/{checkpoint.MARKER}", server.read(f"{at.rpartition('/')[0]}/1/{checkpoint.MARKER}"))


def unmarked(server, key: str) -> None:
    server.client.delete_object(Bucket="parrots", Key=f"{key.rpartition('/')[0]}/{checkpoint.MARKER}")


def halved(server, key: str) -> None:
    server.client.delete_object(Bucket="parrots", Key=key)


@pytest.mark.parametrize("spoil", [torn, forged, moved, unmarked, halved])
def test_a_checkpoint_that_was_torn_or_forged_in_the_store_is_passed_over(machine, s3, tmp_path, spoil):
    saved(machine("one"), 1, 2)
    spoil(s3, f"{tmp_path.name}/checkpoints/trial/2/__0_0.distcp")
    folder, here = saved(machine("other"))
    assert checkpoint.newest(folder, here).name == "1"


def test_what_lies_here_of_another_attempt_is_not_taken_for_what_is_in_the_store(machine):
    one, other = machine("one"), machine("other")
    folder, here = saved(other, 5)
    (folder / "5" / "__0_0.distcp").write_bytes(b"of another attempt")
    (folder / "9").mkdir()
    shutil.copy(folder / "5" / checkpoint.MARKER, folder / "9")
    assert checkpoint.newest(folder, here).name == "5"
    assert checkpoint.is_whole(folder / "5")
    assert one.inside(one.results / "checkpoints")
