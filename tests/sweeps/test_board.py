"""What the board reads and to whom it answers."""

import http.client
import json
import socket
import struct
import time

import pytest

from analysis.board.page import embedded, policy, script
from analysis.board.rows import columns, of_records
from parrots.measurement import Measurement
from parrots.record import path_of
from sweeps.board import Board
from sweeps.board_server import Answer, Server
from sweeps.cli import main
from sweeps.spec import find

from ..test_record import record

CURVE = [Measurement("loss", step, 3 - step / 10, 0.1, 5) for step in (10, 20)]


@pytest.fixture
def results(make_trial, tmp_path):
    """quickstart's smoke cells: one done, one diverged, one out of memory, the others missing; a trial of no sweep."""
    found = find("quickstart", "smoke")
    found.manifest(tmp_path)
    trials = [cell.trial for cell in found.cells]
    record(trials[0], measurements=[*CURVE, Measurement("exact_match", 20, 0.5, 0.1, 25)]).write(tmp_path)
    record(trials[1], "diverged", CURVE, reason="loss is nan").write(tmp_path)
    record(trials[2], "oom", [], reason="MemoryError").write(tmp_path)
    record(make_trial(seed=99)).write(tmp_path)
    return tmp_path


def read(results, *names) -> Board:
    board = Board(results, names)
    board.refresh()
    return board


def values(said: dict, name: str) -> list:
    (found,) = [one for one in said["columns"] if one["name"] == name]
    return found.get("values") or [found["all"]] * said["n"]


def test_every_cell_of_a_sweep_is_a_row_with_its_state_and_the_sizes_that_its_record_has(results):
    said = read(results, "quickstart").since(0)
    states = values(said, "state")
    cells = find("quickstart", "smoke").cells
    assert sorted(states) == sorted(["done", "diverged", "oom", *["missing"] * (len(cells) - 3)])
    at = values(said, "id").index(cells[0].trial.id)
    assert values(said, "N_total")[at] == cells[0].trial.total.N
    assert (values(said, "exact_match")[at], values(said, "loss")[at]) == (0.5, 1.0)
    assert json.dumps(said, allow_nan=False)


def test_without_a_sweep_all_that_is_in_the_results_is_shown(results):
    assert len(read(results).rows) == len(read(results, "quickstart").rows) + 1


def test_only_what_changed_is_told_again(results):
    board = read(results, "quickstart")
    before = board.since(0)
    board.refresh()
    assert board.since(before["revision"])["n"] == 0
    trial = find("quickstart", "smoke").cells[3].trial
    record(trial).write(results)
    board.refresh()
    after = board.since(before["revision"])
    assert values(after, "id") == [trial.id]
    assert values(after, "state") == ["done"]


def test_replies_of_any_size_add_up_to_the_whole(results):
    board = read(results)
    ids, revision = [], 0
    while (said := board.since(revision, at_most=2))["n"]:
        ids += values(said, "id")
        revision = said["revision"]
    assert sorted(ids) == sorted(board.rows)


def test_what_is_gone_from_the_folder_is_told_once_and_comes_back_as_new(results, make_trial):
    board, alone, cell = read(results), make_trial(seed=99), find("quickstart", "smoke").cells[0].trial
    known = board.since(0)
    for trial in (alone, cell):
        path_of(trial.id, results).unlink()
    board.refresh()
    after = board.since(known["revision"])
    assert after["gone"] == [alone.id]
    assert (values(after, "id"), values(after, "state")) == ([cell.id], ["missing"])
    assert board.since(after["revision"])["gone"] == []
    assert alone.id not in board.rows
    record(alone).write(results)
    board.refresh()
    again = board.since(known["revision"])
    assert (sorted(values(again, "id")), again["gone"]) == (sorted([alone.id, cell.id]), [])


def test_a_file_that_is_no_record_is_a_row_that_says_so(results):
    bad = path_of("0123456789abcdef", results)
    bad.write_bytes(b"PAR1 but not really")
    row = of_records([bad])
    assert (row["about"]["id"], row["about"]["state"]) == ("0123456789abcdef", "unreadable")
    assert "not a record" in row["about"]["reason"]
    assert "unreadable" in values(read(results).since(0), "state")


def test_columns_say_once_what_all_rows_have_and_null_for_what_is_not_finite():
    told = columns(
        [{"about": {}, "field": {"a": 1, "b": x}, "size": {}, "score": {"m": (float("nan"), 0.1, 5)}} for x in (1, 2)]
    )
    a, b, m = told
    assert (a["all"], b["values"]) == (1, [1, 2])
    assert m["all"] is None
    assert m["stderr"] == {"all": 0.1}


def test_data_cannot_end_the_element_that_holds_them_and_the_page_runs_its_own_script_alone():
    assert "<" not in embedded({"reason": "</script><!--"})
    assert "</script" not in script()
    assert "unsafe" not in policy()
    assert "http" not in policy()


@pytest.fixture
def server(results):
    with Server(Board(results), port=0) as one:
        from threading import Thread

        Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def ask(server, path: str, host: str = "", method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"localhost:{server.server_port}"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status


def test_it_answers_to_its_own_names_and_to_reading_alone(server, results):
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/") == ask(server, "/rows?after=0") == ask(server, "/curves?trial=0123456789abcdef") == 200
    assert ask(server, "/", host=f"rebound.example:{server.server_port}") == 403
    assert ask(server, "/rows?after=0", host="127.0.0.1") == 403
    for path in (
        "/curves?trial=../../etc/passwd",
        "/curves?trial=..%2F..%2Fx",
        "/rows?after=-1",
        "/rows",
        "/../pyproject.toml",
    ):
        assert ask(server, path) == 404
    assert ask(server, "/", method="POST") == 501


def test_a_folder_that_cannot_be_read_is_told_and_looked_at_again(server, results):
    manifest = results / "sweeps" / "quickstart" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text("{")
    until = time.monotonic() + 60
    while not server.board.problem and time.monotonic() < until:
        time.sleep(0.1)
    assert "not JSON" in server.board.since(0)["problem"]
    assert ask(server, "/") == 503
    manifest.write_text(text)
    while server.board.problem and time.monotonic() < until:
        time.sleep(0.1)
    assert server.board.problem == ""


def test_a_file_that_is_no_record_has_no_curves_and_a_page_that_goes_away_is_no_news(server, results, capfd):
    path_of("0123456789abcdef", results).write_bytes(b"PAR1 but not really")
    assert ask(server, "/curves?trial=0123456789abcdef") == 503
    with socket.create_connection(server.server_address) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        gone.sendall(b"GET /rows?after=0 HT")
    assert ask(server, "/rows?after=0") == 200
    assert capfd.readouterr().err == ""


def test_who_connects_and_asks_nothing_is_hung_up_on(server, monkeypatch):
    monkeypatch.setattr(Answer, "timeout", Answer.timeout / 60)
    with socket.create_connection(server.server_address, timeout=10) as silent:
        assert silent.recv(1) == b""
    assert ask(server, "/") == 200


def test_who_is_slow_to_take_a_reply_gets_all_of_it_and_who_takes_nothing_is_hung_up_on(server, monkeypatch, capfd):
    long, part = 16 * 2**20, 2**20  # more than what the system holds on its way
    monkeypatch.setattr("sweeps.board_server.page", lambda about: "x" * long)
    monkeypatch.setattr(Answer, "timeout", 3.0)
    asked = f"GET / HTTP/1.1\r\nHost: localhost:{server.server_port}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(server.server_address, timeout=30) as slow, slow.makefile("rb") as reply:
        slow.sendall(asked)
        while reply.readline() not in (b"\r\n", b""):
            pass
        taken = 0
        while more := reply.read(part):
            taken += len(more)
            time.sleep(0.2)
    assert taken == long
    with socket.create_connection(server.server_address, timeout=30) as stuck, stuck.makefile("rb") as reply:
        stuck.sendall(asked)
        time.sleep(5)
        assert 0 < len(reply.read()) < long
    assert capfd.readouterr().err == ""


def test_nothing_to_show_and_a_port_in_use_are_a_line(tmp_path, results, capsys):
    assert main(["board", "--results", str(tmp_path / "nowhere")]) == 2
    assert main(["board", "another", "--results", str(results)]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["board", "--results", str(results), "--port", str(taken.getsockname()[1])]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "parrots run SWEEP" in said[0]
    assert "was not run into" in said[1]
    assert "in use" in said[2]
