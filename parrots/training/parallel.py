"""How one model is spread over workers: what the maths in models/ need not know."""

from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.utils.checkpoint import checkpoint

from parrots.models.transformer import Transformer
from parrots.placement import AUTO, EAGER, Placement
from parrots.spec import Training

T = TypeVar("T")


def prepare(model: Transformer, place: Placement) -> None:
    """Recompute, compile and shard a model block by block, in this order and where the placement asks for it.

    Sharded (FSDP2) are weights, gradients and optimizer state, over the workers.
    """
    if place.recompute:
        for block in model.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    assert place.compile != AUTO, "chosen by whoever knows the trial"
    if place.compile != EAGER:
        for block in model.blocks:
            block.compile(mode=place.compile)
    if place.world == 1:
        return
    mesh = init_device_mesh(place.device.partition(":")[0], (place.world,))

    def along(weight: nn.Parameter) -> Shard | None:
        """Experts that the workers cannot share out evenly are cut along their rows instead."""
        return Shard(1) if weight.dim() == 3 and weight.shape[0] % place.world else None

    for block in model.blocks:
        fully_shard(block, mesh=mesh, shard_placement_fn=along)
    fully_shard(model, mesh=mesh, shard_placement_fn=along)


def uncompile(model: Transformer) -> bool:
    """Run the blocks as they are written from now on; returns whether any was compiled."""
    compiled = [block for block in model.blocks if block._compiled_call_impl is not None]
    for block in compiled:
        block._compiled_call_impl = None
    return bool(compiled)


def precision(training: Training, place: Placement) -> AbstractContextManager[None]:
    """Inside it, matrices multiply in the trial's precision."""
    device = place.device.partition(":")[0]
    return torch.autocast(device, torch.bfloat16, enabled=training.precision == "bfloat16")


def sum_over_workers(x: Tensor, place: Placement) -> Tensor:
    """The sum of every worker's `x`, without gradient; `x` itself when alone."""
    if place.world > 1 and x.numel():
        x = x.clone()
        dist.all_reduce(x)
    return x


def least_over_workers(n: int, place: Placement) -> int:
    """The smallest of every worker's `n`: what each reads for itself may differ, and must not."""
    if place.world == 1:
        return n
    found = torch.tensor([n], device=place.device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return int(found)


def of_first(x: T, place: Placement) -> T:
    """The first worker's `x`: what each reads from a disk of its own may differ, and what is done must not."""
    if place.world == 1:
        return x
    said = [x]
    dist.broadcast_object_list(said, device=torch.device(place.device))
    return said[0]


def whole(x: Tensor) -> Tensor:
    """All of `x`, of which a worker may hold a shard."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def synchronize(place: Placement) -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if place.device.startswith("cuda"):
        torch.cuda.synchronize()
