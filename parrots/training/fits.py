"""Which micro-batch fitted into memory, by shape and hardware, so that the next trial of that shape begins with it."""

import hashlib
import json
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
    if place.fits and place.store and not _path(trial, place).exists():
        place.store.get(_path(trial, place))
    try:
        return min(micro, int(json.loads(_path(trial, place).read_bytes())["micro_batch"])) if place.fits else micro
    except FileNotFoundError:
        return micro


def learn(trial: Trial, micro: int, place: Placement) -> None:
    """Remember that more than `micro` examples at once do not fit."""
    if place.fits:
        with atomic(_path(trial, place)) as sink:
            sink.write(json.dumps({"micro_batch": micro, "name": trial.name, "hardware": _hardware(place)}).encode())
        if place.store:
            place.store.put(_path(trial, place))


def _hardware(place: Placement) -> str:
    return torch.cuda.get_device_name(place.device) if place.device.startswith("cuda") else processor()


def _path(trial: Trial, place: Placement) -> Path:
    assert place.fits is not None
    said = {
        "model": canonical(trial.model.model_copy(update={"init_std": 1.0})),
        "sizes": [trial.task.vocab_size, trial.task.seq_len, trial.training.batch_size],
        "precision": trial.training.precision,
        "place": [place.world, place.recompute, place.backend, _hardware(place)],
    }
    return place.fits / f"{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]}.json"
