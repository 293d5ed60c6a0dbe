"""The experts on megablocks' kernels (arXiv 2211.15841), as the paper had them: sorted, gathered, multiplied, scattered.

For fidelity, never the default: it waits for the GPU in every layer. Router, losses, statistics and weights are ours. What
runs is its `grouped` dMoE (ParallelDroplessMLP.grouped_forward_once with GroupedMLP or GroupedGLU, megablocks 0.10.0); its
`sparse` one refuses the triton (3.2 and newer) that comes with the torch that it is pinned to. The package is imported when
it is first asked for; docker/megablocks is an image that has it.
"""

# T tokens, D model, U = F or 2F, E experts, R rows (a token at an expert)

from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from parrots.models.config import Model, MoE
from parrots.models.kernels import activate
from parrots.models.routers import Routing

IMAGE = "the image in docker/megablocks has it (torch 2.7.0, megablocks 0.10.0, grouped_gemm 0.3.0)"
UNIT = 8  # bfloat16 numbers in the 16 bytes that a row has to be a multiple of


def unfit(device: str = "cuda") -> str:
    """Why it cannot run here, in a line; nothing where it can."""
    for package in ("megablocks", "grouped_gemm"):
        if find_spec(package) is None:
            return f"{package} is not installed; {IMAGE}"
    if not torch.__version__.startswith("2.7.0"):
        return f"megablocks 0.10.0 is built for torch 2.7.0 and this is {torch.__version__}; {IMAGE}"
    if not torch.cuda.is_available() or not device.startswith("cuda"):
        return f"needs a CUDA GPU, and the device is {device if torch.cuda.is_available() else 'cpu'}"
    try:
        _kernels()
    except (ImportError, OSError) as error:  # built for another CUDA, or without its extension
        return f"cannot be imported ({' '.join(str(error).split())}); {IMAGE}"
    return ""


def unfit_for(model: Model, precision: str = "bfloat16") -> str:
    """Why it cannot run this model's experts, in a line; nothing where it can or where there are none."""
    ffn = model.ffn
    if not isinstance(ffn, MoE):
        return ""
    if ffn.router == "expert_choice":
        return "router='expert_choice' gives tokens unequal numbers of experts, and its kernels want top_k each"
    for field, width in (("d_model", model.d_model), ("ffn.d_ff", ffn.d_ff)):
        if width % UNIT:
            return f"{field}={width}: its kernels want a multiple of {UNIT}"
    if precision != "bfloat16":
        return f"training.precision={precision!r}: its kernels multiply in bfloat16 only"
    return ""


def _kernels() -> tuple[ModuleType, ModuleType]:
    """Permutation, grouped matrix products."""
    import grouped_gemm
    from megablocks import ops

    return ops, grouped_gemm.ops


def experts(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """A backend (see moe.py), where nothing is unfit. bfloat16, the same number of experts a token. Never compiled."""
    # decorated, it would import the compiler in every process, which takes a second
    return torch.compiler.disable(_experts)(x_TD, routing, up_EDU, down_EFD, gated)


def _experts(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    if x_TD.dtype != torch.bfloat16:
        raise ValueError(f"backend='megablocks': its kernels multiply in bfloat16 only, and this is {x_TD.dtype}")
    if len(x_TD) == 0:
        return x_TD * 0
    assert routing.token_R is None  # unfit_for
    ops, grouped = _kernels()
    k, E = len(routing.expert_R) // len(x_TD), len(up_EDU)
    with torch.no_grad():
        expert_R, row_R = ops.sort(routing.expert_R.int(), max((E - 1).bit_length(), 1))
        ends_E = routing.counts_E.cumsum(0).int()
        size_E = routing.counts_E.cpu()  # where its matrix products want them
    rows_RD = ops.gather(x_TD.contiguous(), row_R, expert_R, ends_E, k)
    out_RD = grouped.gmm(activate(grouped.gmm(rows_RD, up_EDU, size_E), gated), down_EFD, size_E)
    return ops.scatter(out_RD, row_R, expert_R, routing.weight_R.to(x_TD.dtype), ends_E, k)
