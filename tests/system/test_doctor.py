"""`parrots doctor` asks a real Ray's nodes."""

import subprocess
import sys


def test_every_node_is_asked(tmp_path):
    """In a process of its own, as a Ray that is imported already has no token any more."""
    command = [sys.executable, "-m", "sweeps.cli", "doctor", "--ray", "local", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (node,) = (line for line in done.stdout.splitlines() if "clock within" in line)
    assert node.startswith("ok     node ")
    assert not list(tmp_path.iterdir())
