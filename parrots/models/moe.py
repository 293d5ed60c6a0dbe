"""A sparse FFN: a router sends each token to its experts, a backend runs them, and no token is ever dropped.

Backends have one signature and one meaning, `loop`'s; they differ in speed. Which one runs is placement, not identity.
"""

# T tokens, D model, F ffn, U = F or 2F (gate and up side by side), E experts, K experts per token, R = T*K rows

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrots.models.config import MoE
from parrots.models.routers import Routing, softmax_top_k

Backend = Callable[[Tensor, Routing, Tensor, Tensor, bool], Tensor]


def activate(x: Tensor, gated: bool) -> Tensor:
    """silu(gate) * up of a fused (..., 2F) pre-activation when `gated` (SwiGLU), gelu of (..., F) otherwise."""
    if not gated:
        return F.gelu(x)
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def loop(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """The reference: one expert after another over the tokens that chose it. Any dtype, any device, (T, D) back."""
    y_TD = torch.zeros_like(x_TD)
    for e, (up_DU, down_FD) in enumerate(zip(up_EDU, down_EFD, strict=True)):
        tokens, slot = (routing.experts_TK == e).nonzero(as_tuple=True)
        out = activate(x_TD[tokens] @ up_DU, gated) @ down_FD
        y_TD = y_TD.index_add(0, tokens, out * routing.weights_TK[tokens, slot, None].to(out.dtype))
    return y_TD


def grouped(x_TD: Tensor, routing: Routing, up_EDU: Tensor, down_EFD: Tensor, gated: bool) -> Tensor:
    """Sort the rows by expert, two grouped matrix products, unsort. float32 or bfloat16; deterministic."""
    T, K = routing.experts_TK.shape
    order_R = routing.experts_TK.flatten().argsort(stable=True)
    place_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(T * K, device=order_R.device))
    ends_E = routing.counts_E.cumsum(0).to(torch.int32)
    rows_RD = Dispatch.apply(x_TD, order_R, place_R, K)
    hidden_RF = activate(matmul_by_expert(rows_RD, up_EDU, ends_E), gated)
    out_RD = matmul_by_expert(hidden_RF, down_EFD, ends_E)
    out_TKD = Unsort.apply(out_RD, order_R, place_R).view(T, K, -1)
    return (out_TKD * routing.weights_TK[..., None].to(out_RD.dtype)).sum(1)


def matmul_by_expert(rows_RI: Tensor, weights_EIO: Tensor, ends_E: Tensor) -> Tensor:
    """(R, O) rows ends_E[e - 1] to ends_E[e] times the weights of expert e.

    grouped_mm wants rows of a multiple of 16 bytes; odd widths are padded with zeros, which add nothing.
    """
    unit = 16 // rows_RI.element_size()
    wide_i, wide_o = (-size % unit for size in weights_EIO.shape[1:])
    if wide_i or wide_o:
        rows_RI, weights_EIO = F.pad(rows_RI, (0, wide_i)), F.pad(weights_EIO, (0, wide_o, 0, wide_i))
    out_RO = F.grouped_mm(rows_RI, weights_EIO, offs=ends_E)
    return out_RO[:, : out_RO.shape[1] - wide_o]


class Dispatch(torch.autograd.Function):
    """Rows of x in the order of their experts. The way back is a gather too, where autograd would add row by row."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, order_R: Tensor, place_R: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(place_R)
        ctx.k = k
        return x_TD[order_R // k]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (place_R,) = ctx.saved_tensors
        return grads[0][place_R].unflatten(0, (-1, ctx.k)).sum(1), None, None, None


class Unsort(torch.autograd.Function):
    """Rows back in the order of their tokens; a permutation, whose gradient is the inverse one."""

    @staticmethod
    def forward(ctx: Any, rows_RD: Tensor, order_R: Tensor, place_R: Tensor) -> Tensor:
        ctx.save_for_backward(order_R)
        return rows_RD[place_R]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order_R,) = ctx.saved_tensors
        return grads[0][order_R], None, None


BACKENDS: dict[str, Backend] = {"loop": loop, "grouped": grouped}


class SparseFFN(nn.Module):
    """The MoE layer: (T, D) in, (T, D) and the routing out."""

    def __init__(self, d_model: int, ffn: MoE, backend: str):
        super().__init__()
        self.ffn, self.backend = ffn, backend
        self.gated = ffn.activation == "swiglu"
        self.router = nn.Linear(d_model, ffn.n_experts, bias=False)
        self.up_EDU = nn.Parameter(torch.empty(ffn.n_experts, d_model, ffn.d_ff * (2 if self.gated else 1)))
        self.down_EFD = nn.Parameter(torch.empty(ffn.n_experts, ffn.d_ff, d_model))

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        x_TD = x.flatten(0, -2)
        routing = softmax_top_k(self.router(x_TD), self.ffn.top_k, self.ffn.renormalize)
        y_TD = BACKENDS[self.backend](x_TD, routing, self.up_EDU, self.down_EFD, self.gated)
        return y_TD.view_as(x), routing
