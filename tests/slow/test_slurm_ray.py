"""clusters/slurm-ray.sbatch over three hosts, with `srun` and `scontrol` played by scripts: one Ray over all of them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parrots.record import read

from ..conftest import make
from ..e2e.hosts import Host, bridge, missing, unplug

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(1200)]
HERE = Path(__file__).parents[2]


@pytest.fixture
def hosts(tmp_path):
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    found: list[Host] = []
    try:
        bridge()
        for number in (21, 22, 23):
            found.append(Host(number, tmp_path, key.with_suffix(".pub")))
            found[-1].start()
        yield found
    finally:
        for host in found:
            host.remove()
        unplug()


def test_every_node_runs_the_line_and_the_first_one_the_sweep(hosts, tmp_path):
    base, document = make(steps=200).model_dump(), tmp_path / "mine.py"
    document.write_text(
        '"""Mine."""\nfrom sweeps.spec import Sweep, grid, union\nBASE = ' + repr(base) + "\n"
        "def sweep(scale):\n"
        "    cells = union(grid(BASE, {'seed': range(3)}), grid(BASE, {'seed': [9]}, workers=2))\n"
        "    return Sweep(cells=cells, keep='none')\n"
    )
    tools, shared = tmp_path / "tools", tmp_path / "shared"
    tools.mkdir()
    known = f"-i {tmp_path}/id_ed25519 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    names = ("RAY_AUTH_MODE", "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT", "PARROTS_RESULTS", "OMP_NUM_THREADS", "PYTHONPATH")
    lines = [
        "#!/usr/bin/env bash",
        'while [[ $1 == --* ]]; do shift; done; words=$(printf "%q " "$@"); jobs=',
        "told=; for name in " + " ".join(names) + '; do told+="$name=${!name@Q} "; done',
        f"for host in {' '.join(one.address for one in hosts)}; do",
        f'    ssh {known} root@$host "cd {tmp_path}; export PATH={tools}:$PATH $told; $words" & jobs+=" $!"',
        "done",
        "for job in $jobs; do wait $job || exit; done",
    ]
    played = {"srun": "\n".join(lines), "scontrol": "#!/bin/sh\n" + "\n".join(f"echo {one.address}" for one in hosts)}
    for name, module in (("parrots", "sweeps.cli"), ("ray", "ray.scripts.scripts")):
        played[name] = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"'
    for name, text in played.items():
        (tools / name).write_text(text + "\n")
        (tools / name).chmod(0o755)
    # the hosts' own homes hold what `parrots token` made here, as a home that nodes share does
    home = tmp_path / "home"
    told = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    told |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3", "SLURM_SUBMIT_DIR": str(tmp_path)}
    told |= {"PARROTS_RESULTS": str(shared / "results"), "PARROTS_KEYS": str(tmp_path / "keys")}
    for host in hosts:
        own = host.folder / "home"
        (own / ".ray").symlink_to(home / ".ray")
        with (own / ".bashrc").open("a") as rc:
            rc.write(f"export PARROTS_KEYS={tmp_path}/keys RAY_USAGE_STATS_ENABLED=0\n")
    command = ["bash", str(HERE / "clusters" / "slurm-ray.sbatch"), str(document), "--slots", "3"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    rows = read(sorted((shared / "results" / "records").glob("*.parquet"))).to_pandas()
    assert len(set(rows["trial_id"])) == 4
    assert (rows["status"] == "done").all()
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert not any(path.exists() for host in hosts for path in (host.folder / "ray").glob("ray_current_cluster"))
