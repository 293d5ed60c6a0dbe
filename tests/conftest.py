import os
import tempfile
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
if "PARROTS_KEYS" not in os.environ:
    KEYS = tempfile.TemporaryDirectory(prefix="parrots-keys-")  # which goes with this process
    os.environ["PARROTS_KEYS"] = KEYS.name

import pytest
import torch.nn.functional as F

from parrots.spec import Trial

from .object_store import CREDENTIALS, Server

BOOK = {"kind": "phonebook", "n_entries": 60, "n_test": 40}
PATH = {"kind": "length2_path", "n_vertices": 6, "out_degree": 2, "n_train": 500, "train_queries": 3, "n_test": 50}
GRAPHS = {"kind": "shortest_path", "n_vertices": 6, "p": 0.3, "n_train": 300, "n_test": 40}
SEQUENCES = {"kind": "gaussian", "n_sequences": 100, "length": 3, "dim": 8, "n_test": 40}
GROUPED = pytest.param(
    "grouped", marks=pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="torch below 2.10 has no grouped_mm")
)
MOE = {"kind": "moe", "d_ff": 16, "n_experts": 4}


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """An S3 server with a bucket."""
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.end()


@pytest.fixture
def credentials(monkeypatch):
    """Those of the S3 server, where a client looks for them first."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def processes(name: str, *folders: Path) -> list[int]:
    """Processes whose command line begins with `name`, of those that work in or below one of `folders`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            where = (process / "cwd").resolve()
            if (process / "cmdline").read_text().startswith(name) and any(map(where.is_relative_to, folders)):
                found.append(int(process.name))
    return sorted(found)


def make(ffn=None, task=None, seed=0, **training) -> Trial:
    """A small trial, with any part laid over by keyword."""
    return Trial.model_validate(
        {
            "model": {
                "d_model": 16,
                "n_layers": 2,
                "n_heads": 4,
                "n_kv_heads": 2,
                "init_std": 0.2,
                "ffn": ffn or {"kind": "dense", "d_ff": 32},
            },
            "task": task or BOOK,
            "training": {"steps": 20, "batch_size": 20, "lr": 1e-2, "weight_decay": 0.0, **training},
            "seed": seed,
        }
    )


@pytest.fixture
def make_trial():
    """`make`, for tests that take it as a fixture."""
    return make
