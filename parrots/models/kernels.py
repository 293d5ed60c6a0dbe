"""Elementwise parts of a block with their gradients written out, for large tensors on eager CPUs.

Autograd's own gradients of these pass over memory several times as often: at 2,048 tokens of width 128 that is 6 % of a
training step. Below, where calls are what costs, where torch.compile fuses, or on a GPU, the plain formulas run.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrots.models import fused

LARGE = 100_000  # elements


def written_out(x: Tensor) -> bool:
    """Whether the gradients written out here are the faster ones for `x`."""
    return x.numel() >= LARGE and not (x.is_cuda or torch.compiler.is_compiling())


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dim (arXiv 1910.07467)."""
    if fused.takes(x) and weight.dtype is x.dtype:
        return fused.RMSNorm.apply(x, weight, eps)
    return RMSNorm.apply(x, weight, eps) if written_out(x) else F.rms_norm(x, weight.shape, weight, eps)


def widened(x: Tensor) -> Tensor:
    """As float32 at least."""
    return x if x.dtype is torch.float64 else x.float()


class Linear(nn.Linear):
    """A matrix, without a bias."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if fused.multiplies(x, self.weight):
            return fused.Linear.apply(x, self.weight)
        return F.linear(x, self.weight)


def swiglu(x: Tensor) -> Tensor:
    """silu(gate) * up of a fused (..., 2F) pre-activation."""
    if fused.takes(x):
        return fused.SwiGLU.apply(x)
    if written_out(x):
        return SwiGLU.apply(x)
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def activate(x: Tensor, gated: bool) -> Tensor:
    """silu(gate) * up of a fused (..., 2F) pre-activation when `gated` (SwiGLU), gelu of (..., F) otherwise."""
    return swiglu(x) if gated else F.gelu(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, d_head: int) -> Tensor:
    """Rotary positions (arXiv 2104.09864) for rows laid out halves first; (B, S, heads * C) in, (B, heads, S, C) out.

    cos, sin: (S, heads * C / 2) or, when sequences differ in position, (B, S, heads * C / 2).
    """
    x, cos, sin = (t.unflatten(-1, (-1, d_head // 2)) for t in (x, cos, sin))
    if written_out(x):
        return Rotation.apply(x, cos, sin)
    a, b = x.chunk(2, dim=-2)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-2).flatten(-2).transpose(1, 2)


def cross_entropy(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    """The sum of the negative log-probabilities of the targets, in nats."""
    if fused.takes(logits_CV):
        return fused.CrossEntropy.apply(logits_CV, targets_C)
    return F.cross_entropy(logits_CV, targets_C, reduction="sum")


class RMSNorm(torch.autograd.Function):
    """(..., D) and (D,) in, (..., D) out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(torch.linalg.vecdot(x, x)[..., None] / x.shape[-1] + eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        g_TD, normed_TD = grads[0].flatten(0, -2), (x * scale).flatten(0, -2)
        down_TD = g_TD * normed_TD
        along_T1 = (down_TD @ weight)[:, None] / -x.shape[-1]
        grad = torch.addcmul(g_TD * weight, normed_TD, along_T1).view_as(x).mul_(scale)
        return grad, down_TD.sum(0), None


class SwiGLU(torch.autograd.Function):
    """(..., 2F) in, (..., F) out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        ctx.save_for_backward(x)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        grad = torch.empty_like(x)
        grad_gate, grad_up = grad.chunk(2, dim=-1)
        torch.mul(grads[0], F.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward(grads[0] * up, gate, grad_input=grad_gate)
        return grad


class Rotation(torch.autograd.Function):
    """(B, S, 2 heads, C / 2) with the first halves of all heads first in, (B, heads, S, C) out; its gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        a, b = x.chunk(2, dim=-2)
        turned = x.new_empty((*a.shape[:-1], 2, a.shape[-1]))
        torch.addcmul(a * cos, b, sin, value=-1, out=turned[..., 0, :])
        torch.addcmul(b * cos, a, sin, out=turned[..., 1, :])
        return turned.flatten(-2).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        a, b = grads[0].transpose(1, 2).unflatten(-1, (2, -1)).unbind(-2)
        back = torch.empty((*a.shape[:-2], 2, *a.shape[-2:]), dtype=a.dtype, device=a.device)
        torch.addcmul(a * cos, b, sin, out=back[..., 0, :, :])
        torch.addcmul(b * cos, a, sin, value=-1, out=back[..., 1, :, :])
        return back.flatten(-3, -2), None, None
