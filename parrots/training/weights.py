"""A trial's model: before training, and its final weights as one safetensors file."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import load_file, save
from torch import Tensor

from parrots.atomic import atomic
from parrots.models.transformer import Transformer
from parrots.placement import AUTO, Placement
from parrots.spec import Trial
from parrots.training.parallel import whole


def built(trial: Trial, backend: str = AUTO) -> Transformer:
    """The model of `trial`, its weights still to come."""
    task = trial.task
    return Transformer(trial.model, task.vocab_size, task.seq_len - 1, backend, task.input_dim)


def initial(trial: Trial, place: Placement) -> Transformer:
    """The model before training, on the device."""
    model = built(trial, place.backend)
    model.initialize(trial.seed)
    return model.to(place.device)


def path_of(trial_id: str, folder: Path) -> Path:
    """Where the weights of a trial are kept."""
    return folder / f"{trial_id}.safetensors"


@torch.no_grad()
def keep(model: Transformer, path: Path, place: Placement) -> str:
    """Write the weights, whole or not at all. Every worker calls it, since each holds a part; the first writes.

    Returns the file's SHA-256, which the record copies; nothing to the other workers.
    """
    tensors = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    if place.rank:
        return ""
    if "head.weight" in tensors and model.config.tie_embeddings:
        del tensors["head.weight"]
    content = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
    with atomic(path) as sink:
        sink.write(content)
    if place.store:
        place.store.put(path)
    return hashlib.sha256(content).hexdigest()


def load(trial: Trial, path: Path, sha256: str) -> Transformer:
    """The trained model of `trial`, ready for evaluation. OSError where there are no weights.

    sha256: what its record says of them; ValueError if they have another, or it says nothing.
    """
    with path.open("rb") as file:
        check(path, hashlib.file_digest(file, "sha256").hexdigest(), sha256)
    return loaded(trial, load_file(path))


def content(trial: Trial, path: Path, sha256: str) -> bytes:
    """The bytes of a file of weights of `trial`, read once. Errors as of `load`, and safetensors' for what is none."""
    found = path.read_bytes()
    check(path, hashlib.sha256(found).hexdigest(), sha256)
    loaded(trial, tensors_of(found))
    return found


def check(path: Path, found: str, sha256: str) -> None:
    """ValueError unless they are those that the record tells of."""
    if found != sha256:
        why = "their SHA-256 differs" if sha256 else "it has no SHA-256 of any"
        raise ValueError(f"{path}: not the weights that the record was made with; {why}")


def loaded(trial: Trial, tensors: dict[str, Tensor]) -> Transformer:
    """The model of `trial` with these weights."""
    model = built(trial)
    if trial.model.tie_embeddings:
        tensors["head.weight"] = tensors["embedding.weight"]
    model.load_state_dict(tensors)
    return model.eval()
