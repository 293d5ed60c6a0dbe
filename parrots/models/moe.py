"""The feed-forward blocks. Dense, and sparse: a router sends each token to its experts, a backend runs them, none is dropped.

Backends have one signature and one meaning, `loop`'s; they differ in speed. Which one runs is placement, not identity.
"""

# T tokens, D model, F ffn, U = F or 2F (gate and up side by side), E experts, R rows (a token at an expert)

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrots.models import fused, megablocks_backend
from parrots.models.choice import MOST_GROUPS, on_cpu
from parrots.models.config import Model, MoE
from parrots.models.kernels import Linear, activate
from parrots.models.routers import Routing, build_router

Backend = Callable[[Tensor, Routing, Tensor, Tensor, bool], Tensor]


def loop(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """The reference: one expert after another over the tokens that chose it. Any dtype, any device, (T, D) back."""
    y_TD = torch.zeros_like(x_TD)
    token_R = routing.tokens(len(x_TD))
    for e, (up_DU, down_FD) in enumerate(zip(up_EDU, down_EFD, strict=True)):
        rows = (routing.expert_R == e).nonzero()[:, 0]
        out = activate(x_TD[token_R[rows]] @ up_DU, gated) @ down_FD
        y_TD = y_TD.index_add(0, token_R[rows], out * routing.weight_R[rows, None].to(out.dtype))
    return y_TD


def grouped(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """Sort the rows by expert, two grouped matrix products, unsort. float32 or bfloat16."""
    order_R, slot_R = by_expert(routing)
    ends_E = routing.counts_E.cumsum(0).to(torch.int32)

    def experts(rows_RD: Tensor) -> Tensor:
        return matmul_by_expert(activate(matmul_by_expert(rows_RD, up_EDU, ends_E), gated), down_EFD, ends_E)

    return through(experts, x_TD, routing, order_R, slot_R)


def padded(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """As many rows for each expert as the busiest has, two batched matrix products. For few rows: no work per expert.

    Any dtype. The rows that fill up repeat others, of the same trial (what is not a number in one stays there), and are
    never read. Waits for a GPU, to know the busiest.
    """
    E, R = len(up_EDU), len(routing.expert_R)
    order_R, place_R = by_expert(routing)
    start_E = routing.counts_E.cumsum(0) - routing.counts_E
    most = int(routing.counts_E.max())
    slot_R = (torch.arange(E, device=x_TD.device) * most - start_E)[routing.expert_R].add_(place_R)
    filled = start_E[:, None] + torch.arange(most, device=x_TD.device)
    if routing.n_trials == 1:
        filled.clamp_(max=max(R - 1, 0))
    else:
        trial_E = torch.arange(E, device=x_TD.device) // (E // routing.n_trials)
        filled = filled.minimum((trial_E[:, None] + 1) * (R // routing.n_trials) - 1)

    def experts(rows_RD: Tensor) -> Tensor:
        return (activate(rows_RD.view(E, most, -1) @ up_EDU, gated) @ down_EFD).flatten(0, 1)

    return through(experts, x_TD, routing, order_R[filled.flatten()], slot_R)


def compiled(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """As `grouped`, in numba's kernels with their gradients: one call where others make one an expert. float32, on a CPU."""
    if x_TD.dtype is not torch.float32 or x_TD.device.type != "cpu" or routing.token_R is not None:
        raise ValueError("backend='compiled': float32 on a CPU, where tokens choose their experts; take 'grouped' elsewhere")
    y_TD: Tensor = fused.Experts.apply(x_TD, routing.expert_R, routing.counts_E, routing.weight_R, up_EDU, down_EFD, gated)
    return y_TD


def by_expert(routing: Routing) -> tuple[Tensor, Tensor]:
    """The rows in the order of their experts, and the place of each in that order."""
    order_R = routing.expert_R.argsort(stable=True)
    places = torch.arange(len(order_R), device=order_R.device)
    return order_R, torch.empty_like(order_R).scatter_(0, order_R, places)


def through(experts: Callable[[Tensor], Tensor], x_TD: Tensor, routing: Routing, row_N: Tensor, slot_R: Tensor) -> Tensor:
    """Dispatch, run, combine: (T, D) in and out.

    experts: (N, D) to (N, D). row_N: the row of the routing that stands in each of N slots; slot_R: the slot whose output
    is a row's. Deterministic where every token has as many rows as any other; elsewhere a GPU adds them up in any order.
    """
    T, R = len(x_TD), len(slot_R)
    if R == 0:
        return x_TD * 0
    if routing.token_R is not None:
        out_RD = experts(x_TD[routing.token_R[row_N]])[slot_R] * routing.weight_R[:, None].to(x_TD.dtype)
        return torch.zeros_like(x_TD).index_add(0, routing.token_R, out_RD)
    k = R // T
    out_ND = experts(Dispatch.apply(x_TD, row_N // k, slot_R, k))
    weight_T1K = routing.weight_R.view(T, 1, k).to(out_ND.dtype)
    return (weight_T1K @ Combine.apply(out_ND, row_N, slot_R).view(T, k, -1)).squeeze(1)


def matmul_by_expert(rows_RI: Tensor, weights_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """(R, O) rows ends_E[e - 1] to ends_E[e] times the weights of expert e.

    grouped_mm wants rows of a multiple of 16 bytes; odd widths are padded with zeros, which add nothing.
    """
    if not hasattr(F, "grouped_mm"):
        raise ValueError(
            f"backend 'grouped' needs torch 2.10 or newer and this is {torch.__version__}; take 'padded' or 'loop'"
        )
    unit = 16 // rows_RI.element_size()
    wide_i, wide_o = (-size % unit for size in weights_EIO.shape[1:])
    if wide_i or wide_o:
        rows_RI, weights_EIO = F.pad(rows_RI, (0, wide_i)), F.pad(weights_EIO, (0, wide_o, 0, wide_i))
    multiply = opaque_grouped_mm if torch.compiler.is_compiling() else F.grouped_mm
    out_RO = multiply(rows_RI, weights_EIO, offs=ends_E)
    return out_RO[:, : out_RO.shape[1] - wide_o] if wide_o else out_RO


@torch.library.custom_op("parrots::grouped_mm", mutates_args=())
def opaque_grouped_mm(rows_RI: Tensor, weights_EIO: Tensor, offs: Tensor) -> Tensor:
    """`grouped_mm` as torch.compile takes it: it cannot lower the original in float32 (torch 2.13)."""
    return F.grouped_mm(rows_RI, weights_EIO, offs=offs)


@opaque_grouped_mm.register_fake
def _(rows_RI: Tensor, weights_EIO: Tensor, offs: Tensor) -> Tensor:
    return rows_RI.new_empty(rows_RI.shape[0], weights_EIO.shape[2])


@torch.library.custom_op("parrots::grouped_mm_backward", mutates_args=())
def opaque_grouped_mm_backward(grad_RO: Tensor, rows_RI: Tensor, weights_EIO: Tensor, ends_E: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of its rows and its weights."""
    rows = F.grouped_mm(grad_RO, weights_EIO.transpose(1, 2), offs=ends_E)
    return rows, F.grouped_mm(rows_RI.T, grad_RO, offs=ends_E)


@opaque_grouped_mm_backward.register_fake
def _(grad_RO: Tensor, rows_RI: Tensor, weights_EIO: Tensor, ends_E: Tensor) -> tuple[Tensor, Tensor]:
    return rows_RI.new_empty(rows_RI.shape), weights_EIO.new_empty(weights_EIO.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_RO: Tensor) -> tuple[Tensor, Tensor, None]:
    return *opaque_grouped_mm_backward(grad_RO.contiguous(), *ctx.saved_tensors), None


opaque_grouped_mm.register_autograd(_backward, setup_context=_save)


class DenseFFN(nn.Module):
    """A feed-forward block that every token passes through."""

    def __init__(self, d_model: int, d_ff: int, gated: bool):
        super().__init__()
        self.gated = gated
        self.up = Linear(d_model, d_ff * (2 if gated else 1))
        self.down = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(activate(self.up(x), self.gated))


class Dispatch(torch.autograd.Function):
    """Tokens into slots. The way back is a gather too, where autograd would add row by row."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_N: Tensor, slot_R: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(slot_R)
        ctx.k = k
        return x_TD[token_N]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (slot_R,) = ctx.saved_tensors
        return grads[0][slot_R].unflatten(0, (-1, ctx.k)).sum(1), None, None, None


class Combine(torch.autograd.Function):
    """Slots back to rows. Every row has one slot; slots that only fill up have no gradient."""

    @staticmethod
    def forward(ctx: Any, out_ND: Tensor, row_N: Tensor, slot_R: Tensor) -> Tensor:
        ctx.save_for_backward(row_N, slot_R)
        return out_ND[slot_R]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        row_N, slot_R = ctx.saved_tensors
        if len(row_N) == len(slot_R):
            return grads[0][row_N], None, None
        return grads[0].new_zeros(len(row_N), grads[0].shape[1]).index_copy_(0, slot_R, grads[0]), None, None


AUTO = "auto"
MEGABLOCKS = "megablocks"
COMPILED = "compiled"
BACKENDS: dict[str, Backend] = {
    "loop": loop,
    "grouped": grouped,
    "padded": padded,
    COMPILED: compiled,
    MEGABLOCKS: megablocks_backend.experts,
}


PARTICULAR = {COMPILED: fused, MEGABLOCKS: megablocks_backend}
"""Backends that go with some devices and models alone: where their `unfit` and `unfit_for` are, which say why not."""


def check_backend(backend: str, model: Model) -> None:
    """ValueError if there is no such backend, or if it cannot run here or not for this model."""
    if backend not in (AUTO, *BACKENDS):
        raise ValueError(f"backend={backend!r}: one of {', '.join((AUTO, *BACKENDS))}")
    if (one := PARTICULAR.get(backend)) and (reason := one.unfit() or one.unfit_for(model)):
        raise ValueError(f"backend={backend!r}: {reason}")


def fastest(rows: int, n_experts: int, d_model: int, device: str) -> str:
    """The backend that is fastest for so many rows, as benchmarks/results/moe_ffn-cpu.md has it; elsewhere `grouped`."""
    if not hasattr(F, "grouped_mm"):  # torch below 2.10
        return "padded"
    if device != "cpu" or torch.compiler.is_compiling():
        return "grouped" if n_experts < MOST_GROUPS else "padded"
    return on_cpu(rows, n_experts, d_model)


def chosen(x_TD: Tensor, routing: Routing, n_experts: int) -> str:
    """The fastest backend for these rows: numba's kernels where they go, as benchmarks/results/moe_ffn-cpu.md has it."""
    if routing.token_R is None and fused.takes(x_TD):
        return COMPILED
    if x_TD.dtype is torch.float64:  # which grouped_mm does not take
        return "padded"
    return fastest(len(routing.expert_R), n_experts, x_TD.shape[1], x_TD.device.type)


def run(backend: str, x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """(T, D) what the experts make of their tokens, by this backend or the fastest, in autocast's precision where it is on."""
    if torch.is_autocast_enabled(x_TD.device.type):  # grouped_mm does not ask
        dtype = torch.get_autocast_dtype(x_TD.device.type)
        x_TD, up_EDU, down_EFD = x_TD.to(dtype), up_EDU.to(dtype), down_EFD.to(dtype)
    if backend == AUTO:
        backend = chosen(x_TD, routing, len(up_EDU))
    return BACKENDS[backend](x_TD, routing, up_EDU, down_EFD, gated)


class SparseFFN(nn.Module):
    """The MoE layer: hidden states and token ids in, hidden states and the routing out."""

    def __init__(self, d_model: int, vocab_size: int, ffn: MoE, backend: str):
        super().__init__()
        self.backend = backend
        self.gated = ffn.activation == "swiglu"
        self.router = build_router(d_model, vocab_size, ffn)
        self.up_EDU = nn.Parameter(torch.empty(ffn.n_experts, d_model, ffn.d_ff * (2 if self.gated else 1)))
        self.down_EFD = nn.Parameter(torch.empty(ffn.n_experts, ffn.d_ff, d_model))
        # experts that all tokens pass through are, side by side, one dense block
        self.shared = DenseFFN(d_model, ffn.n_shared * ffn.d_ff, self.gated) if ffn.n_shared else None

    def forward(self, x_BSD: Tensor, tokens_BS: Tensor) -> tuple[Tensor, Routing]:
        routing = self.router(x_BSD, tokens_BS)
        y_TD = run(self.backend, x_BSD.flatten(0, 1), routing, self.up_EDU, self.down_EFD, self.gated)
        y_BSD = y_TD.view_as(x_BSD)
        return (y_BSD if self.shared is None else y_BSD + self.shared(x_BSD)), routing
