"""What a run needs of the nodes of a Ray cluster, each asked on the node itself."""

import hmac
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parrots.frozen import first_line
from parrots.keys import checkpoint_key
from sweeps import token
from sweeps.doctor import GIB, SCARCE, SKEW_S, Check
from sweeps.guard import nearest, unheard, unwritable


def nodes(address: str, results: Path, store: str | None = None) -> Iterator[Check]:
    """Every node of a Ray cluster: versions as here, results writable, clocks together. `local` starts one here.

    Results have to be shared, or the store to be open to each.
    """
    if address == "local":
        os.environ |= token.of_its_own()
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from sweeps.lanes import fewest
    from sweeps.leaks import leaks

    if why := unheard(address):
        yield unreached(address, why)
        return
    try:
        ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=False if address == "local" else None)
    except (ConnectionError, ray.exceptions.RayError) as error:
        yield unreached(address, first_line(error))
        return
    try:
        ask = ray.remote(num_cpus=0)(_look)
        found = ray.nodes()  # once: who comes meanwhile is not told of, and counts as not there
        with mark(nearest(results)) as seen:
            for node in found:
                name = f"node {node['NodeManagerHostname']}"
                if not node["Alive"]:
                    yield Check(name, "not alive; its work goes on elsewhere", "note", "`ray status` says why")
                    continue
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                began = time.time()
                try:
                    said = ray.get(ask.options(scheduling_strategy=where).remote(results.absolute(), seen, store), timeout=120)
                except (ray.exceptions.RayError, TimeoutError) as error:
                    why = str(error).strip().splitlines()[-1][:200]
                    yield Check(name, f"cannot run our code ({why})", "fails", "install this project and constraints.txt on it")
                    continue
                yield from _judged(name, said, (began + time.time()) / 2, (time.time() - began) / 2)
        alive = sum(node["Alive"] for node in found)
        if address != "local" and alive < fewest():
            remedy = "`ray up` does not wait for the others: ask again in a minute; `ray monitor FILE` tells what they do"
            yield Check("nodes", f"{alive} of at least {fewest()} are there", "note", remedy)
        for line in sorted(leaks()):
            yield Check("left over", line, "note", "of a run at work, or of one that was killed: then `ray down` and `ray up`")
    finally:
        ray.shutdown()


def unreached(address: str, why: str) -> Check:
    """A cluster that does not answer."""
    remedy = "`ray up` brings it up; RAY_AUTH_MODE=token where it asks for the token"
    if address == os.environ.get("RAY_ADDRESS"):
        remedy += "; without RAY_ADDRESS a run starts a Ray of its own"
    return Check("Ray", f"not reached at {address} ({why})", "fails", remedy)


@contextmanager
def mark(folder: Path) -> Iterator[str]:
    """The path of a file here that other machines see if they share the folder; empty where it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".parrots-doctor-") as file:
            yield file.name
    except OSError:
        yield ""


def signs_as() -> str:
    """What tells this machine's checkpoint key from another, and nothing of it; or why it has none that it may use."""
    try:
        return hmac.new(checkpoint_key(), b"doctor", "sha256").hexdigest()[:8]
    except (OSError, ValueError) as error:
        return first_line(error)


def _look(results: Path, seen: str, store: str | None) -> dict[str, Any]:
    """On a node, by itself: versions, GPUs, its clock, disk and key, why results cannot be written, whether they are shared.

    With a store: why it cannot be used, or that nothing else needs to be shared.
    """
    import platform
    import shutil

    import torch

    from parrots.store import Store

    closed = ""
    if store:
        try:
            Store(store, results).check()
        except ValueError as error:
            closed = str(error)
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "time": time.time(),
        "wrong": unwritable(results),
        "at": str(results),
        "shared": bool(store) or not seen or Path(seen).exists(),
        "closed": closed,
        "signs_as": signs_as(),
        "free": shutil.disk_usage(tempfile.gettempdir()).free,
    }


def _judged(name: str, said: dict[str, Any], now: float, within: float) -> Iterator[Check]:
    """What a node told, beside this one. within: seconds by which its time may be off for the way it took."""
    import torch

    here = {"python": ".".join(map(str, sys.version_info[:2])), "torch": torch.__version__}
    other = [f"{part} {said[part]}, here {here[part]}" for part in here if said[part] != here[part]]
    skew_s = said["time"] - now
    if other:
        yield Check(name, "; ".join(other), "fails", "install from the same constraints.txt on every node")
    if said["wrong"]:
        remedy = "results have to be on storage that all share"
        yield Check(name, said["wrong"], "fails", remedy)
    elif not said["shared"]:
        remedy = "mount the same storage there, or name it with --results"
        yield Check(name, f"{said['at']} is another folder there than here", "fails", remedy)
    if said["closed"]:
        yield Check(name, said["closed"], "fails", "give its role the rights of the others (docs/CLUSTER.md)")
    if said["signs_as"] != (own := signs_as()):
        remedy = "copy `checkpoint` of parrots/keys there (docs/SECURITY.md): it would pass over what others wrote"
        yield Check(name, f"signs checkpoints with another key ({said['signs_as']}, here {own})", "fails", remedy)
    if said["free"] < SCARCE:
        yield Check(name, f"{said['free'] / GIB:.1f} GiB free for Ray's files", "fails", "free some, or give it a larger disk")
    if abs(skew_s) > SKEW_S + within:
        yield Check(name, f"its clock is {skew_s:+.0f} s from this one", "fails", "synchronise the clocks (chrony, ntpd)")
    else:
        gpus = f", {len(said['gpus'])} x {said['gpus'][0]}" if said["gpus"] else ""
        yield Check(name, f"python {said['python']}, torch {said['torch']}{gpus}, clock within {abs(skew_s) + within:.1f} s")
