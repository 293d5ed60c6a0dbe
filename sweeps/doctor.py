"""What a run needs of this machine, looked at one by one: what is there, whether it does, and what to do where it does not."""

import os
import platform
import re
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from parrots.frozen import first_line
from parrots.keys import covered, secret
from parrots.keys import folder as keys_folder
from parrots.provenance import cores
from parrots.store import Store
from sweeps import token
from sweeps.guard import LOOPBACK, nearest, unwritable
from sweeps.tracked import spelled

GIB = 2**30
PORTS = {5000: "`parrots ui` and `parrots mlflow serve`", 8265: "Ray's dashboard", 6379: "a Ray cluster's head"}
SKEW_S = 5.0  # between this clock and a file system's or another node's; records carry both
SCARCE, SHORT = 1 * GIB, 10 * GIB  # of free disk: less fails, less is said
LITTLE = 2 * GIB  # of free memory
FEW_FILES = 4096  # Ray's processes hold some hundreds each
ROOMS = ("parrots", "sweeps", "analysis")  # of which PyPI has packages by others
RAY_FULL = 0.95  # of a disk: Ray makes no objects beyond


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    found: str
    state: Literal["ok", "note", "fails"] = "ok"
    """note: a run would work without; fails: it would not."""
    remedy: str = ""


def checks(results: Path, store: str | None = None) -> Iterator[Check]:
    """Everything but other nodes, in the order in which it would stop a run."""
    groups = {"packages": packages(), "devices": devices(), "backends": backends(), "results": storage(results)}
    groups |= {"store": (usable(Store(uri, results)) for uri in [store] if uri)}
    groups |= {"secrets": secrets(), "MLflow": mirrored(), "ports": ports(), "limits": limits()}
    for what, group in groups.items():
        try:
            yield from group
        except Exception as error:  # such as a library that is there and cannot be imported
            remedy = "pip install -c constraints.txt -e ." if isinstance(error, ImportError) else ""
            yield Check(what, covered(f"{type(error).__name__}: {first_line(error)}"), "fails", remedy)


def packages() -> Iterator[Check]:
    """Python and what pyproject.toml asks for; extras that are not there are notes."""
    yield Check("python", platform.python_version())
    extras: dict[str, list[str]] = {}
    for line in requires("mixture-of-parrots") or ():
        asked = Requirement(line)
        extra = next((name for name in ("team", "gpu", "eval", "rl") if asked.marker and f'"{name}"' in str(asked.marker)), "")
        if asked.marker and not extra:
            continue  # of the developers' extra
        there = installed(asked.name)
        if extra:
            extras.setdefault(extra, [])
            extras[extra] += [asked.name] if there is None else []
        elif there is None:
            yield Check(asked.name, "not installed", "fails", f"pip install '{asked.name}{asked.specifier}'")
        elif not asked.specifier.contains(there, prereleases=True):
            yield Check(asked.name, f"{there}, not {asked.specifier}", "fails", f"pip install '{asked.name}{asked.specifier}'")
        elif asked.name in ("torch", "ray", "mlflow"):
            yield Check(asked.name, there)
    for name in ROOMS:
        if there := installed(name):
            remedy = f"pip uninstall {name}; it is another's package, and ours is mixture-of-parrots"
            yield Check(f"package {name}", f"{there}, which takes the place of our `import {name}`", "fails", remedy)
    for extra, absent in extras.items():
        if absent:
            remedy = f"pip install 'mixture-of-parrots[{extra}]', where it is wanted"
            yield Check(f"extra {extra}", f"without {', '.join(absent)}", "note", remedy)


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def devices() -> Iterator[Check]:
    """GPUs and what they can run, CUDA and NCCL; how workers would talk."""
    import torch
    import torch.distributed as dist

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            said = f"a driver is here, and torch {torch.__version__}, built {built}, sees no GPU"
            yield Check("GPU", said, "fails", "install the torch build for this driver's CUDA, or hide the GPU")
        else:
            yield Check("GPU", "none; trials run on the CPU", "note")
        state: Literal["ok", "fails"] = "ok" if dist.is_gloo_available() else "fails"
        yield Check(
            "workers", "over gloo" if state == "ok" else "torch has no gloo", state, "" if state == "ok" else "reinstall torch"
        )
        return
    count = torch.cuda.device_count()
    if dist.is_nccl_available():
        yield Check("CUDA", f"{torch.version.cuda}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}")
    else:
        said = f"{torch.version.cuda}, without NCCL: GPUs cannot share a trial"
        yield Check("CUDA", said, "fails" if count > 1 else "note", "install torch from PyPI, which has it")
    for number in range(count):
        about = torch.cuda.get_device_properties(number)
        bf16 = about.major >= 8
        runs = "bfloat16 and float32" if bf16 else "float32"
        said = f"{about.name}, {about.total_memory / GIB:.0f} GiB, compute capability {about.major}.{about.minor}: {runs}"
        yield Check(f"GPU {number}", said, "ok" if bf16 else "note", "" if bf16 else "bfloat16 wants 8.0; take float32")


def backends() -> Iterator[Check]:
    """How experts can be computed here."""
    import torch
    import torch.nn.functional as F

    from parrots.models.moe import BACKENDS, PARTICULAR

    why = {name: one.unfit() for name, one in PARTICULAR.items()}
    if not hasattr(F, "grouped_mm"):
        why["grouped"] = "torch has no grouped_mm, which came with 2.10"
    for name in BACKENDS:
        if reason := why.get(name):
            yield Check(
                f"backend {name}",
                reason,
                "fails" if name == "grouped" else "note",
                "pip install 'torch>=2.10'" if name == "grouped" else "",
            )
    there = ", ".join(name for name in BACKENDS if not why.get(name))
    yield Check("backends", f"{there}, on {'CUDA' if torch.cuda.is_available() else 'the CPU'}")


def storage(results: Path) -> Iterator[Check]:
    """The results folder, or where it would be made: writable, with room, and of the same time as this clock."""
    if said := unwritable(results):
        yield Check("results", said, "fails", "name another folder with --results")
    else:
        yield clock(nearest(results))
        yield room(nearest(results), "results")
    yield room(nearest(Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))), "Ray's files", RAY_FULL)


def clock(folder: Path) -> Check:
    """How the time of a file that is made there differs from ours."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.utime(file.fileno())  # the file system's own clock
        skew_s = os.fstat(file.fileno()).st_mtime - time.time()
    if abs(skew_s) > SKEW_S:
        said = f"{folder}: its clock is {skew_s:+.0f} s from this one"
        return Check("results", said, "fails", "synchronise both (chrony, ntpd)")
    return Check("results", f"{folder} can be written")


def usable(store: Store) -> Check:
    """Whether a store can be written to, read and deleted from."""
    try:
        store.check()
    except ValueError as error:
        remedy = "the address, the bucket, or what this machine's role may do there"
        return Check("store", str(error).removeprefix("store "), "fails", remedy)
    return Check("store", f"{store.uri} can be written, read and deleted from")


def room(folder: Path, what: str, full: float = 1.0) -> Check:
    """How much is free on a folder's disk."""
    disk = shutil.disk_usage(folder)
    said = f"{disk.free / GIB:,.1f} GiB free in {folder}"
    if disk.free < SCARCE or disk.used > full * disk.total:
        return Check(f"{what}, disk", said, "fails", "free some (`parrots gc` for results), or name another disk")
    short = disk.free < SHORT
    return Check(f"{what}, disk", said, "note" if short else "ok", "`parrots gc` shows what can go" if short else "")


def secrets() -> Iterator[Check]:
    """The installation's secrets, which are refused unless they are whole and only their owner may read them; Ray's token."""
    tokens = os.environ.get("RAY_AUTH_MODE") == "token"
    ours = [path for path in keys_folder().glob("*") if path.is_file() and path.name != "mlflow-users.db"]  # which keeps hashes
    for path in (*ours, *([theirs] if (theirs := token.path()).exists() else [])):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            remedy = f"chmod 600 {path}; make it anew if others read it"
            yield Check("secret", f"{path} has mode {mode:04o}", "note" if path == theirs and not tokens else "fails", remedy)
            continue
        try:
            if path != theirs and not path.suffix:  # mlflow.ini is none by itself
                secret(path.name)
        except OSError as error:
            yield Check("secret", f"{path}: {error.strerror}", "fails", f"copy {path} from a host that shares the results")
        else:
            yield Check("secret", f"{path}, mode {mode:04o}")
    theirs_said = theirs.read_text(errors="replace").strip() if theirs.is_file() else ""
    joins = tokens and "RAY_ADDRESS" in os.environ  # a Ray of a run's own has its own
    if joins and not (theirs_said or os.environ.get("RAY_AUTH_TOKEN")):
        yield Check("Ray's token", f"RAY_AUTH_MODE=token and no token at {theirs}", "fails", "`parrots token` makes it")


def mirrored() -> Iterator[Check]:
    """Whether the MLflow that the environment names answers; a run is over without it."""
    uri = spelled(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not uri or uri.startswith("sqlite:"):  # which is made where it is not
        return
    from mlflow import MlflowClient
    from sqlalchemy import create_engine

    from sweeps.tracking import answering

    try:
        with answering(uri):
            if uri.startswith("http"):
                MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            else:
                create_engine(uri).connect().close()
    except ValueError as error:
        remedy = "a run goes on without; the next one adds what is missing"
        yield Check("MLflow", str(error).removeprefix("MLflow at "), "note", remedy)
    else:
        yield Check("MLflow", f"{covered(uri)} answers")


def ports() -> Iterator[Check]:
    """Whether somebody listens where ours would."""
    for port, whose in PORTS.items():
        with socket.socket() as probe:
            taken = probe.connect_ex((LOOPBACK, port)) == 0
        if taken:
            yield Check(f"port {port}", "in use", "note", f"it is the default of {whose}; name another with --port")
    yield Check("ports", "looked at " + ", ".join(map(str, PORTS)))


def limits() -> Iterator[Check]:
    """Cores, memory, open files."""
    yield Check("cores", f"{cores()} for this process")
    if (free := available()) is not None:
        little = free < LITTLE
        yield Check(
            "memory", f"{free / GIB:,.1f} GiB free", "note" if little else "ok", "run with fewer --slots" if little else ""
        )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files < FEW_FILES
    yield Check("open files", f"{files:,} a process", "note" if few else "ok", "ulimit -n 65536" if few else "")


def available() -> int | None:
    """Bytes of this machine's memory that a process may still take; None where the system does not say."""
    about = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable: +(\d+) kB", about.read_text(), re.MULTILINE) if about.exists() else None
    return int(found[1]) * 1024 if found else None
