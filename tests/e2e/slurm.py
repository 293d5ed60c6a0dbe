"""Debian's Slurm: its controller on this machine, and three nodes that are hosts of hosts.py.

Each says it has eight cores and four GPUs, which are empty files, so that jobs may ask for what they would ask a real one for.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import hosts
from .hosts import Network

HERE = Path(__file__).parents[2]
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = (21, 22, 23)
SETTINGS = """
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=60
GresTypes=gpu
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """Why there can be none here; nothing where there can."""
    if absent := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"{', '.join(absent)} not installed (Debian: munge, slurmctld, slurmd, slurm-client)"
    return hosts.missing()


class Slurm:
    """What a user types there; jobs have the same environment, in which `parrots`, `ray` and `python` are this one's.

    address: of this machine, as the nodes reach it.
    """

    def __init__(self, folder: Path, address: str):
        self.folder, self.address, tools = folder, address, folder / "tools"
        tools.mkdir(parents=True)
        for name, words in (("parrots", "-m sweeps.cli"), ("ray", "-m ray.scripts.scripts"), ("python", "")):
            (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (tools / name).chmod(0o755)
        told = {"HOME": str(folder), "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        told |= {"GLOO_SOCKET_IFNAME": "eth0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_MEMORY_MONITOR": "1"}
        self.environment = told | {"SLURM_CONF": f"{folder}/slurm.conf", "PARROTS_KEYS": f"{folder}/keys"}

    def __call__(self, *words: str, cwd: Path | None = None) -> str:
        """What the command says. Its own words where it fails."""
        done = subprocess.run(words, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def batch(self, folder: Path, *words: str, file: str = "slurm.sbatch") -> str:
        """The id of what `sbatch` makes of one of our files; its options, then `--`, then the file's."""
        at = words.index("--")
        command = ["sbatch", "--parsable", *words[:at], str(HERE / "clusters" / file), *words[at + 1 :]]
        return self(*command, cwd=folder).strip()

    def state(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, or of a job of an array."""
        said = self("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in said if "=" in word)

    def until(self, job: str, *states: str, seconds: float = 300) -> dict[str, str]:
        """Wait for one of these states, and tell all about it."""
        end = time.monotonic() + seconds
        while (known := self.state(job))["JobState"] not in states:
            assert time.monotonic() < end, f"{job} is {known['JobState']}, {known['Reason']}"
            time.sleep(0.2)
        return known


@contextmanager
def started(folder: Path) -> Iterator[Slurm]:
    """Slurm, with its nodes up, until it is left."""
    own, key, processes = folder / "slurm", folder / "id_ed25519", []
    network = Network(32, folder, key.with_suffix(".pub"))
    slurm = Slurm(own, network.address())
    (own / "state").mkdir()
    (own / "munge.key").write_bytes(secrets.token_bytes(64))
    (own / "munge.key").chmod(0o600)
    for k in range(4):
        (own / f"gpu{k}").touch()
    (own / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={own}/gpu[0-3]\n")
    (own / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    names = {number: f"parrots{number}" for number in NODES}

    def start(*words: str) -> None:
        with (own / f"{words[0]}.log").open("w") as log:
            processes.append(subprocess.Popen(words, env=slurm.environment, stdout=log, stderr=log))

    with network:
        lines = [f"ClusterName=parrots\nSlurmctldHost={socket.gethostname()}({slurm.address})"]
        lines += [f"AuthInfo=socket={own}/munge,cred_expire=5"]  # so long a job that is queued again waits
        lines += [
            f"NodeName={name} NodeAddr={network.address(n)} CPUs=8 RealMemory=8000 Gres=gpu:4" for n, name in names.items()
        ]
        (own / "slurm.conf").write_text("\n".join(lines) + SETTINGS.format(folder=own))
        try:
            start("munged", "--foreground", "--force", f"--key-file={own}/munge.key", f"--socket={own}/munge",
                  f"--pid-file={own}/munged.pid", f"--seed-file={own}/munged.seed")  # fmt: skip
            while not (own / "munge").exists():
                assert processes[0].poll() is None, (own / "munged.log").read_text()
                time.sleep(0.05)
            start("slurmctld", "-D", "-c")
            for number, name in names.items():
                network.boot(number, daemon=f"SLURM_CONF={own}/slurm.conf slurmd -D -N {name}")
            end = time.monotonic() + 60
            while slurm("sinfo", "--noheader", "--format", "%T").split() != ["idle"]:
                assert time.monotonic() < end, (own / "slurmctld.log").read_text()
                time.sleep(0.2)
            yield slurm
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)
