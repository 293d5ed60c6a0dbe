"""Messages that really arrive, at a server on the loopback address."""

import json
import re
import socket
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from sweeps import notify
from sweeps.cli import main
from sweeps.course import run_found
from sweeps.guard import writable
from sweeps.how import How
from sweeps.notify import Teller
from sweeps.spec import find

from ..test_record import record


@contextmanager
def listening():
    """An address, and what was sent to it."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", heard
    server.shutdown()
    server.server_close()


def test_the_end_is_told_with_the_number_of_cells_in_each_state():
    with listening() as (url, heard):
        Teller("mine", [url]).ended({"done": 3, "failed": 1})
    (message,) = heard
    assert (message["title"], message["message"]) == ("mine: ended", "3 done, 1 failed. `parrots status mine` has more")


def test_a_run_that_is_asked_to_end_tells_why():
    with listening() as (url, heard):
        Teller("mine", [url]).stopped("1.03 device-hours are spent", {"done": 3, "missing": 1})
    (message,) = heard
    said = "1.03 device-hours are spent; 3 done, 1 missing. The next `parrots run` goes on from here"
    assert (message["title"], message["message"]) == ("mine: stopped", said)


def test_a_trial_that_fails_again_is_told_and_one_that_fails_once_or_then_ends_well_is_not(make_trial, tmp_path):
    once, again, well = (make_trial(seed=seed) for seed in range(3))
    record(once, "failed", [], reason="x").write(tmp_path)
    for trial in (again, well):
        for attempt in (1, 2):
            record(trial, "failed", [], reason="x", attempt=attempt).write(tmp_path)
    record(well).write(tmp_path)
    with listening() as (url, heard):
        tell = Teller("mine", [url])
        for trial in (once, again, well):
            tell.attempted(trial, tmp_path)
        tell.ended({"failed": 2})
    message, _ = heard
    assert message["title"] == f"mine: phonebook {again.name} failed 2 times"
    assert again.id in message["message"]


@pytest.fixture
def failing(make_trial, tmp_path):
    """Twenty trials that have failed twice."""
    trials = [make_trial(seed=seed) for seed in range(20)]
    for trial in trials:
        for attempt in (1, 2):
            record(trial, "failed", [], reason="x", attempt=attempt).write(tmp_path)
    return trials


def trials_told(heard: list[dict]) -> int:
    """Of how many trials these messages say that they failed."""
    return sum(int((re.search(r"(\d+) trials failed", one["title"]) or [0, 1])[1]) for one in heard)


def test_after_a_few_failures_those_of_a_minute_are_one_message_and_the_end_is_told_last(failing, tmp_path):
    with listening() as (url, heard):
        tell = Teller("mine", [url])
        for trial in failing:
            tell.attempted(trial, tmp_path)
        tell.ended({"failed": 20})
    *failures, end = heard
    assert end["title"] == "mine: ended"
    assert len(failures) <= notify.FEW + 1
    assert trials_told(failures) == len(failing)
    assert failing[0].name in failures[0]["title"]


def test_failures_are_told_while_the_run_goes_on(failing, tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "FEW", 0)
    monkeypatch.setattr(notify, "EVERY_S", 1.0)
    with listening() as (url, heard):
        tell, end = Teller("mine", [url]), time.monotonic() + 30
        for some in (failing[:15], failing[15:]):
            for trial in some:
                tell.attempted(trial, tmp_path)
            before = len(heard)
            while len(heard) == before and time.monotonic() < end:
                time.sleep(0.05)
    first, second = heard
    assert (trials_told([first]), trials_told([second])) == (15, 5)
    assert failing[0].name in first["message"]
    assert "and 5 more" in first["message"]
    assert "and" not in second["message"]


def test_an_address_that_does_not_answer_holds_no_run_up_and_is_told_at_its_end(failing, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tell = Teller("mine", [f"json://127.0.0.1:{silent.getsockname()[1]}/?cto=1&rto=1"])
        began = time.monotonic()
        for trial in failing:
            tell.attempted(trial, tmp_path)
        assert time.monotonic() - began < 5
        tell.ended({"failed": 20})
        assert time.monotonic() - began < notify.PATIENCE_S
    assert tell.problem == "could not deliver to an address of --notify: ended"


def test_what_cannot_be_delivered_stops_nothing():
    with listening() as (url, _):
        pass
    tell = Teller("mine", [url])
    tell.ended({"done": 1})
    assert "could not deliver" in tell.problem


def test_what_a_stopped_run_leaves_is_written_before_anybody_is_told(tmp_path, monkeypatch):
    """Whoever ends it gives it some seconds, and an address may take them all."""

    def asked(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.run.run", asked)
    tell, left = Teller("quickstart"), []
    tell.stopped = lambda *_: left.extend(tmp_path.glob("sweeps/quickstart/runs/*"))
    writable(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_found(find("quickstart", "smoke"), tmp_path, How(), tell=tell)
    assert left


def test_nobody_to_tell_is_no_work(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)  # an import of it would fail
    Teller("mine").ended({"done": 1})


@pytest.mark.parametrize(("url", "said"), [("nonsense", "***"), ("fly://somewhere/hunter2", "fly://***"), ("", "***")])
def test_an_address_that_is_none_is_refused_before_anything_starts_and_not_told(url, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "quickstart", "--scale", "smoke", "--notify", url]) == 2
    assert f"--notify {said}: no address that apprise knows" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
