"""How one model is spread over workers: what the maths in models/ need not know."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

from parrots.models.transformer import Transformer
from parrots.placement import Placement


def shard(model: Transformer, place: Placement) -> None:
    """Shard weights, gradients and optimizer state over the workers (FSDP2), a block at a time. Alone: nothing to do."""
    if place.world == 1:
        return
    mesh = init_device_mesh(place.device, (place.world,))

    def along(weight: nn.Parameter) -> Shard | None:
        """Experts that the workers cannot share out evenly are cut along their rows instead."""
        return Shard(1) if weight.dim() == 3 and weight.shape[0] % place.world else None

    for block in model.blocks:
        fully_shard(block, mesh=mesh, shard_placement_fn=along)
    fully_shard(model, mesh=mesh, shard_placement_fn=along)


def sum_over_workers(x: Tensor, place: Placement) -> Tensor:
    """The sum of every worker's `x`, without gradient; `x` itself when alone."""
    if place.world > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def synchronize(place: Placement) -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if place.device.startswith("cuda"):
        torch.cuda.synchronize()
