"""`ray up` on three hosts, a sweep on them, one of them killed and brought back: every cell ends with one good record."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parrots.record import read
from sweeps.spec import find

from .hosts import Host, bridge, missing, unplug

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(900)]
HERE = Path(__file__).parents[2]
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
    """Three hosts, a project folder, and the file that `ray up` is given, which is clusters/onprem.yaml filled in."""
    folder = tmp_path_factory.mktemp("cluster")
    home, project = folder / "home", folder / "project"
    (home / ".ssh").mkdir(parents=True)
    key = home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for part in ("parrots", "sweeps", "analysis", "pyproject.toml", "constraints.txt", "README.md"):
        copy = shutil.copytree if (HERE / part).is_dir() else shutil.copy
        project.mkdir(exist_ok=True)
        copy(HERE / part, project / part)
    (project / "lasting.py").write_text(SWEEP)
    hosts = []
    try:
        bridge()
        for number in (11, 12, 13):
            hosts.append(Host(number, folder, key.with_suffix(".pub")))
            hosts[-1].start()
        yield Cluster(folder, home, project, hosts)
    finally:
        for host in hosts:
            host.remove()
        unplug()


class Cluster:
    """What the user types, from the project's folder."""

    def __init__(self, folder: Path, home: Path, project: Path, hosts: list[Host]):
        self.folder, self.project, self.hosts = folder, project, hosts
        self.file, self.results = folder / "cluster.yaml", folder / "shared" / "results"
        head, *workers = (host.address for host in hosts)
        text = (HERE / "clusters" / "onprem.yaml").read_text()
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
        self.file.write_text(text)
        names = ("PATH", "LANG")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        self.environment |= {"HOME": str(home), "RAY_UP_enable_autoscaler_v2": "0", "PYTHONPATH": str(project)}
        self.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "USER": "root"}

    def __call__(self, *words: str, timeout: float = 300) -> str:
        done = subprocess.run(
            words, cwd=self.project, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def parrots(self, *words: str) -> str:
        return self(sys.executable, "-m", "sweeps.cli", *words)

    def ray(self, *words: str) -> str:
        return self(sys.executable, "-m", "ray.scripts.scripts", *words)

    def records(self) -> int:
        return len(list((self.results / "records").glob("*.parquet")))


def wait_for(what, seconds: float, say) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, say()
        time.sleep(0.5)


def test_a_sweep_on_three_hosts_survives_the_loss_of_one(cluster, tmp_path):
    file, results = str(cluster.file), str(cluster.results)
    cluster.parrots("token")
    cluster.parrots("doctor", "--results", results)
    assert (cluster.folder / "home" / ".config" / "parrots" / "keys" / "checkpoint").exists()
    cluster.ray("up", "--yes", "--no-config-cache", file)
    cluster.parrots("run", "lasting.py", "--results", results, "--cluster", file, "--checkpoint-every", "2")
    wait_for(lambda: cluster.records() >= 1, 240, lambda: cluster.parrots("status", "--results", results, "--cluster", file))
    lost = cluster.hosts[2]
    lost.kill()
    time.sleep(6)
    lost.start()
    cells = find(str(cluster.project / "lasting.py")).cells
    wait_for(
        lambda: cluster.records() == len(cells),
        420,
        lambda: cluster.parrots("status", "lasting", "--results", results, "--cluster", file),
    )
    cluster.parrots("pull", file, "--from", results, "--results", str(tmp_path / "home"))
    rows = read(sorted((tmp_path / "home" / "records").glob("*.parquet"))).to_pandas()
    assert set(rows["trial_id"]) == {cell.trial.id for cell in cells}
    assert (rows["status"] == "done").all()
    assert rows.groupby("trial_id")["started"].nunique().eq(1).all()
    cluster.ray("down", "--yes", file)
