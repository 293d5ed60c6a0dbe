"""docs/CLUSTER.md line by line on three hosts: a sweep that is stopped goes on, one host is lost and comes back, and every
cell ends with one good record."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from parrots.record import read
from sweeps.spec import find

from .hosts import Host, Network, missing

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(900)]
HERE = Path(__file__).parents[2]
FILE = "clusters/onprem.yaml"
SWEEP = '''"""Cells that last long enough to lose a host meanwhile."""

from sweeps.spec import Sweep, grid, union

SCALES = ("laptop",)
BASE = {
    "model": {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "ffn": {"kind": "moe", "d_ff": 32, "n_experts": 4}},
    "task": {"kind": "phonebook", "n_entries": 200, "n_test": 200},
    "training": {"steps": 900, "batch_size": 32, "lr": 1e-2, "weight_decay": 0.0},
}


def sweep(scale):
    alone = grid(BASE, {"model.ffn.n_experts": (2, 4, 8, 16, 32)}, lane="packed")
    pair = grid(BASE, {"seed": [8]}, workers=2)
    return Sweep(cells=union(alone, pair), keep="none")
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three hosts that share a file system."""
    with three_hosts(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@contextmanager
def three_hosts(folder: Path, environment: Callable[[Network], dict[str, str] | None] = lambda _: None):
    """Three hosts, a project folder, and the file that `ray up` is given, which is clusters/onprem.yaml filled in.

    environment: of a login, if each host has a disk of its own, from the network that they are on.
    """
    home, project = folder / "home", folder / "project"
    (home / ".ssh").mkdir(parents=True)
    key = home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for part in ("parrots", "sweeps", "analysis", "clusters", "pyproject.toml", "constraints.txt", "README.md"):
        copy = shutil.copytree if (HERE / part).is_dir() else shutil.copy
        project.mkdir(exist_ok=True)
        copy(HERE / part, project / part)
    (project / "my_sweep.py").write_text(SWEEP)
    (project / ".gitignore").write_text(".venv\n/results/\n__pycache__/\n")
    with Network(31, folder, key.with_suffix(".pub")) as network:
        of_login = environment(network)
        for number in (11, 12, 13):
            network.boot(number, of_login)
        yield Cluster(folder, home, project, network.hosts)


class Cluster:
    """What the user types, from the project's folder."""

    def __init__(self, folder: Path, home: Path, project: Path, hosts: list[Host]):
        self.folder, self.project, self.hosts = folder, project, hosts
        self.records, file = folder / "shared" / "results" / "records", project / "clusters" / "onprem.yaml"
        head, *workers = (host.address for host in hosts)
        text = file.read_text()
        for mark, value in (
            ("<address of the head>", head),
            ("[<address of a worker>, <address of another>]", f"[{', '.join(workers)}]"),
            ("<user>", "root"),
            ("~/.ssh/id_ed25519", str(home / ".ssh" / "id_ed25519")),  # ssh asks the password file for ~, not $HOME
            ("cluster_name: parrots", f"cluster_name: parrots-{os.getpid()}"),
            # the environment of this test stands for what pip would install on each
            (
                "python3.12 -m venv .venv && .venv/bin/pip install --quiet -c constraints.txt -e '.[gpu,team]'",
                f"ln -sfn {sys.prefix} .venv",
            ),
        ):
            assert mark in text, mark
            text = text.replace(mark, value)
        file.write_text(text)
        git = ("git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@x")
        for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "as it was sent")):
            subprocess.run((*git, *words), check=True)
        names = ("PATH", "LANG")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        self.environment |= {"HOME": str(home), "PYTHONPATH": str(project), "RAY_USAGE_STATS_ENABLED": "0", "USER": "root"}

    def __call__(self, line: str, *more: str) -> str:
        """One line of the page."""
        command, *words = line.split()
        if command == "export":
            name, _, value = words[0].partition("=")
            self.environment[name] = value
            return ""
        module = {"parrots": "sweeps.cli", "ray": "ray.scripts.scripts"}[command]
        done = subprocess.run(
            [sys.executable, "-m", module, *words, *more],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def done(self) -> int:
        return len(list(self.records.glob("*.parquet")))

    def wait_for(self, records: int, seconds: float) -> None:
        self.until(lambda: self.done() >= records, seconds)

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self(f"parrots logs --cluster {FILE}") + self(f"parrots status --cluster {FILE}")
            time.sleep(0.5)


def page() -> list[str]:
    """The commands for machines of one's own."""
    text = (HERE / "docs" / "CLUSTER.md").read_text()
    lines = text.partition("## Machines of your own")[2].split("```")[1].split("\n")[1:-1]
    return [line.partition("    #")[0] for line in lines]


def test_the_page_on_three_hosts_one_of_which_is_lost_meanwhile(cluster):
    cells, said = find(str(cluster.project / "my_sweep.py")).cells, {}
    begun = cluster.records.parent / "sweeps" / "my_sweep" / "manifest.json"
    for line in page():
        if line.startswith("ray up"):
            assert (cluster.folder / "home" / ".config" / "parrots" / "keys" / "checkpoint").exists()
            said[line] = cluster(line, "--no-config-cache")
        elif line.startswith("parrots run") and line not in said:
            said[line] = cluster(line, "--checkpoint-every", "2")
            cluster.until(begun.exists, 240)
        elif line.startswith("parrots stop"):
            cluster.wait_for(1, 240)
            said[line] = cluster(line, "--wait", "240")
            kept = {path: path.stat().st_mtime_ns for path in cluster.records.iterdir()}
            assert len(kept) < len(cells)
        elif line.startswith("parrots run"):
            said[line] = cluster(line, "--checkpoint-every", "2")
            cluster.wait_for(len(kept) + 1, 240)
            lost = cluster.hosts[2]
            lost.kill()
            time.sleep(6)
            lost.start()
        elif line.startswith("parrots pull"):
            cluster.wait_for(len(cells), 420)
            said[line] = cluster(line)
            rows = read(sorted((cluster.project / "results" / "records").glob("*.parquet"))).to_pandas()
        elif line.startswith("parrots doctor"):  # `ray up` waits for the head alone, and doctor tells who is not there yet
            said[line] = cluster(line)
            while "are there" in said[line]:
                assert "of at least 3 are there" in said[line]
                said[line] = cluster(line)
            assert not [counts for host in cluster.hosts if (counts := host.telling("/metrics"))]
        else:
            said[line] = cluster(line)
    assert set(rows["trial_id"]) == {cell.trial.id for cell in cells}
    assert (rows["status"] == "done").all()
    assert rows.groupby("trial_id")["started"].nunique().eq(1).all()
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # the second run has gone on, not begun anew
    assert "stopped; finished records and checkpoints stay" in said[f"parrots stop --cluster {FILE}"]
    head = subprocess.run(["git", "-C", str(cluster.project), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert set(rows["commit"]) == {head.strip()}  # of the code that was sent, not of what is installed there
    assert "nothing stops a run" in said[f"parrots doctor --cluster {FILE}"]
    assert said[f"parrots doctor --cluster {FILE}"].count("clock within") == len(cluster.hosts)
    assert "Cells that last long enough" in said[f"parrots logs --cluster {FILE}"]
    assert (cluster.project / "results" / "reports" / "my_sweep" / "report.html").exists()
