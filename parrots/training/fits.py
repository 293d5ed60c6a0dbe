"""Which micro-batch fitted into memory, by shape and hardware, so that the next trial of that shape begins with it."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import torch

from parrots.atomic import atomic
from parrots.frozen import canonical
from parrots.placement import Placement
from parrots.provenance import processor
from parrots.spec import Trial


def known(trial: Trial, place: Placement) -> int:
    """Examples that a worker takes at once here, as far as is known; its whole share if nothing is."""
    share = trial.training.batch_size // place.world
    micro = min(place.micro_batch or share, share)
    if not place.fits:
        return micro
    path = _path(trial, place)
    try:
        if place.store and not path.exists():
            place.store.get(path)
        return max(1, min(micro, int(json.loads(path.read_bytes())["micro_batch"])))
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that is torn
        return micro


def learn(trial: Trial, micro: int, place: Placement) -> bool:
    """Remember that more than `micro` examples at once do not fit; False if it cannot be written for all who look for it."""
    if place.fits:
        path = _path(trial, place)
        with suppress(OSError):
            with atomic(path) as sink:
                sink.write(json.dumps({"micro_batch": micro, "name": trial.name, "hardware": _hardware(place)}).encode())
            if place.store:
                place.store.impatient.put(path)
            return True
    return False


def _hardware(place: Placement) -> str:
    """What computes, and the share of it where this process may have a part of a GPU's memory only."""
    if not place.device.startswith("cuda"):
        return processor()
    share = torch.cuda.get_per_process_memory_fraction(torch.device(place.device).index)
    return torch.cuda.get_device_name(place.device) + (f", {share:.3f} of its memory" if share < 1 else "")


def _path(trial: Trial, place: Placement) -> Path:
    assert place.fits is not None
    said = {
        "model": canonical(trial.model.model_copy(update={"init_std": 1.0})),
        "sizes": [trial.task.vocab_size, trial.task.seq_len, trial.training.batch_size],
        "precision": trial.training.precision,
        "place": [place.world, place.recompute, place.backend, _hardware(place)],
    }
    return place.fits / f"{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]}.json"
