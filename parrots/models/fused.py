"""The kernels of parrots/models/compiled as autograd knows them: for float32 on a CPU, where numba is installed."""

# Letters as in parrots/models/compiled

from collections.abc import Callable
from functools import lru_cache, wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from parrots.models.config import Model, MoE

LARGE = 100_000  # elements from which several threads of torch beat one of ours
LONG = 400_000  # products of two numbers from which ours, called from Python, are sooner done than torch's
LANES = 16  # parrots.models.compiled.vectors.W, which takes a second to import
LONGEST, LONGEST_WIDE = 256, 64  # tokens of a sequence in whose attention the kernel is faster: of heads up to 32, of wider


def not_again(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A `backward` without a gradient of its own: asked for one (create_graph), it raises where autograd would say nothing."""

    @wraps(backward)
    def asked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("the CPU kernels' gradients have none of their own; take float64, whose operators are torch's")
        return backward(ctx, *grads)

    return asked


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether there is a numba to compile with."""
    return find_spec("numba") is not None


def unfit(device: str = "cpu") -> str:
    """Why experts cannot be computed by the kernels here, in a line; nothing where they can."""
    if not installed():
        return "needs numba; pip install numba"
    return "" if device.startswith("cpu") else f"needs a CPU, and the device is {device}"


def unfit_for(model: Model, precision: str = "float32") -> str:
    """Why they cannot compute this model's experts, in a line; nothing where they can or where there are none."""
    if not isinstance(model.ffn, MoE):
        return ""
    if model.ffn.router == "expert_choice":
        return "router='expert_choice' gives tokens unequal numbers of experts, and its kernels want top_k each"
    return "" if precision == "float32" else f"training.precision={precision!r}: its kernels multiply in float32 only"


def takes(x: Tensor) -> bool:
    """Whether the kernels take `x`, and are the faster way.

    Not inside torch.compile, which fuses by itself, nor where something watches operators (a counter of FLOPs or of bytes).
    """
    return (
        x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and (x.numel() < LARGE or torch.get_num_threads() == 1)
        and installed()
    )


def longest(d_head: int, heads: int) -> int:
    """Tokens of the longest sequence whose attention is faster here than torch's, for so many heads of sequences in all.

    Fewer where they do not fill the lanes.
    """
    return (LONGEST if d_head <= 32 else LONGEST_WIDE) * heads // (LANES * max(blocks(heads), 1))


def multiplies(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels take a product with a weight: not under autocast, nor where a call costs what they save."""
    return x.numel() * len(weight) >= LONG and takes_block(x, weight)


def takes_block(x: Tensor, weight: Tensor) -> bool:
    """Whether they take a norm, products with weights like this one and the residual in one call."""
    return takes(x) and weight.dtype is x.dtype and not torch.is_autocast_enabled("cpu")


def takes_whole(x: Tensor) -> bool:
    """Whether they take it as one vector in the order of its memory."""
    return takes(x) and x.is_contiguous()


def at(x: Tensor) -> int:
    """Its address."""
    address: int = x.data_ptr()
    return address


def spare(weight: Tensor, gradient: Tensor) -> None:
    """Let the next gradient of this weight have this one's memory: fresh pages cost as much as AdamW does on them."""
    weight.spare = gradient  # type: ignore[attr-defined]


def room(weight: Tensor) -> Tensor:
    """Memory for a gradient of this weight, with anything in it."""
    if (kept := weight.__dict__.pop("spare", None)) is not None:
        return kept
    return torch.empty_like(weight)


def blocks(n: int) -> int:
    """Blocks of lanes that hold n heads of sequences."""
    return -(-n // LANES)


class RMSNorm(torch.autograd.Function):
    """(..., D) and (D,) in, (..., D) out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        from parrots.models import compiled

        x, D = x.contiguous(), x.shape[-1]
        T = x.numel() // D
        y, scale = torch.empty_like(x), x.new_empty(T)
        compiled.rms_norm(at(x), at(weight), at(y), at(scale), T, D, eps)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        from parrots.models import compiled

        x, weight, scale = ctx.saved_tensors
        g, gx, gw = grads[0].contiguous(), torch.empty_like(x), torch.empty_like(weight)
        compiled.rms_norm_back(at(g), at(x), at(weight), at(scale), at(gx), at(gw), len(scale), len(weight))
        return gx, gw, None


class Linear(torch.autograd.Function):
    """(..., I) in, (..., O) out, by (O, I) weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        from parrots.models import compiled

        x, weight, (O, I) = x.contiguous(), weight.contiguous(), weight.shape  # noqa: E741
        y = x.new_empty((*x.shape[:-1], O))
        compiled.linear(at(x), at(weight), at(y), x.numel() // I, I, O)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from parrots.models import compiled

        (x, weight), g = ctx.saved_tensors, grads[0].contiguous()
        (O, I), T = weight.shape, x.numel() // x.shape[-1]  # noqa: E741
        gx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gw = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        wanted = (0 if out is None else at(out) for out in (gx, gw))
        compiled.linear_back(at(g), at(x), at(weight), *wanted, T, I, O)
        return gx, gw


def through_block(ctx: Any, kernel: Callable[..., None], tensors: tuple[Tensor, ...], eps: float) -> Tensor:
    """What half a block makes of the first of `tensors`; the others are its weights and what it leaves for the way back."""
    y = torch.empty_like(tensors[0])
    kernel(*map(at, tensors), at(y), *ctx.sizes, eps)
    ctx.save_for_backward(*tensors)
    return y


def back_through_block(ctx: Any, kernel: Callable[..., None], gradient: Tensor) -> list[Tensor]:
    """The gradients of its input and of its three weights, which stand first among what was saved."""
    saved, g = ctx.saved_tensors, gradient.contiguous()
    wanted = [torch.empty_like(x) for x in saved[:4]]
    kernel(at(g), *map(at, saved), *map(at, wanted), *ctx.sizes)
    return wanted


class AttentionBlock(torch.autograd.Function):
    """(B, S, D) x in, x + attention(norm(x)) out, by the weights of norm, queries, keys and values, and output.

    Weights with one dim more are those of as many trials (models/stacked.py), whose sequences are x in turn.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, qkv: Tensor, out: Tensor, cos: Tensor, sin: Tensor, H: int, G: int, eps: float
    ) -> Tensor:
        from parrots.models import compiled

        x, (B, S, D), K = x.contiguous(), x.shape, norm.numel() // norm.shape[-1]
        weights = norm.contiguous(), qkv.contiguous(), out.contiguous(), cos, sin
        ctx.sizes = K, B // K, S, H, G, D // H
        kept = torch.empty_like(x), x.new_empty(B, S), x.new_empty(B, S, qkv.shape[-2]), torch.empty_like(x)
        return through_block(ctx, compiled.attend_block, (x, *weights, *kept), eps)

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from parrots.models import compiled

        return *back_through_block(ctx, compiled.attend_block_back, grads[0]), None, None, None, None, None


class SwiGLUBlock(torch.autograd.Function):
    """(B, S, D) x in, x + down(silu(gate) * up) of norm(x) out, by the weights of norm, gate and up, and down.

    Of one trial or of several, as in `AttentionBlock`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, up: Tensor, down: Tensor, eps: float) -> Tensor:
        from parrots.models import compiled

        x, (B, S, D), F = x.contiguous(), x.shape, down.shape[-1]
        K, weights = norm.numel() // D, (norm.contiguous(), up.contiguous(), down.contiguous())
        ctx.sizes = K, B * S // K, D, F
        kept = torch.empty_like(x), x.new_empty(B, S), x.new_empty(B, S, 2 * F), x.new_empty(B, S, F)
        return through_block(ctx, compiled.swiglu_block, (x, *weights, *kept), eps)

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from parrots.models import compiled

        return *back_through_block(ctx, compiled.swiglu_block_back, grads[0]), None


class SwiGLU(torch.autograd.Function):
    """(..., 2F) in, (..., F) out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from parrots.models import compiled

        x, F = x.contiguous(), x.shape[-1] // 2
        y = x.new_empty((*x.shape[:-1], F))
        compiled.swiglu(at(x), 0, at(y), x.numel() // (2 * F), F)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        from parrots.models import compiled

        (x,) = ctx.saved_tensors
        g, gx, F = grads[0].contiguous(), torch.empty_like(x), x.shape[-1] // 2
        compiled.swiglu_back(at(g), at(x), 0, 0, at(gx), 0, x.numel() // (2 * F), F)
        return gx


class TopK(torch.autograd.Function):
    """(T, E) logits in; (T, E) probabilities, weights and experts (T * K,) and their counts (E,) out."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, K: int, renormalize: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from parrots.models import compiled

        logits = logits.contiguous()
        T, E = logits.shape
        ctx.sizes = T, E, K, renormalize
        probs, weight = torch.empty_like(logits), logits.new_empty(T * K)
        expert, counts = torch.empty(T * K, dtype=torch.int64), torch.empty(E, dtype=torch.int64)
        compiled.top_k(at(logits), at(probs), at(weight), at(expert), at(counts), *ctx.sizes)
        ctx.mark_non_differentiable(expert, counts)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(probs, weight, expert)
        return probs, weight, expert, counts

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        from parrots.models import compiled

        probs, weight, expert = ctx.saved_tensors
        gp = None if grads[0] is None else grads[0].contiguous()
        gw, out = torch.zeros_like(weight) if grads[1] is None else grads[1].contiguous(), torch.empty_like(probs)
        compiled.top_k_back(at(gw), 0 if gp is None else at(gp), at(probs), at(weight), at(expert), at(out), *ctx.sizes)
        return out, None, None


class Experts(torch.autograd.Function):
    """(T, D) tokens, their K experts each and the weights of these in, (T, D) out.

    An expert's activations take the weight before its second matrix, so that its outputs need not be kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, expert: Tensor, counts: Tensor, weight: Tensor, up: Tensor, down: Tensor, gated: bool
    ) -> Tensor:
        from parrots.models import compiled

        x, weight, up, down = x.contiguous(), weight.contiguous(), up.contiguous(), down.contiguous()
        (T, D), (E, F, _), R, U = x.shape, down.shape, len(expert), up.shape[2]
        order, slot = torch.empty_like(expert), torch.empty_like(expert)
        compiled.sort(at(expert), at(counts), at(order), at(slot), R, E)
        rows, weights = x.new_empty(R, D), x.new_empty(R)
        compiled.dispatch(at(x), at(order), at(weight), at(rows), at(weights), R, D, R // T)
        before, after = x.new_empty(R, U), x.new_empty(R, F)
        compiled.by_expert(at(rows), at(up), at(before), at(counts), R, E, D, U)
        if gated:
            compiled.swiglu(at(before), at(weights), at(after), R, F)
        else:
            after = functional.gelu(before) * weights[:, None]
        out, y = x.new_empty(R, D), torch.empty_like(x)
        compiled.by_expert(at(after), at(down), at(out), at(counts), R, E, F, D)
        compiled.combine(at(out), at(slot), at(y), T, D, R // T)
        ctx.gated = gated
        ctx.save_for_backward(rows, before, weights, order, slot, counts, up, down)
        return y

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from parrots.models import compiled

        rows, before, weights, order, slot, counts, up, down = ctx.saved_tensors
        gy = grads[0].contiguous()
        (T, D), (E, F, _), R, U = gy.shape, down.shape, len(rows), up.shape[2]
        g_out = torch.empty_like(rows)
        compiled.dispatch(at(gy), at(order), 0, at(g_out), 0, R, D, R // T)
        g_after, g_before, g_sorted = rows.new_empty(R, F), torch.empty_like(before), torch.empty_like(weights)
        compiled.by_expert_rows_back(at(g_out), at(down), at(g_after), at(counts), R, E, F, D)
        if ctx.gated:
            after = torch.empty_like(g_after)
            compiled.swiglu_back(at(g_after), at(before), at(weights), at(after), at(g_before), at(g_sorted), R, F)
        else:
            after = functional.gelu(before)
            g_sorted = (g_after * after).sum(1)
            g_before = torch.ops.aten.gelu_backward(g_after.mul_(weights[:, None]), before)
            after.mul_(weights[:, None])
        g_down, g_up = room(down), room(up)
        compiled.by_expert_weights_back(at(after), at(g_out), at(g_down), at(counts), R, E, F, D)
        compiled.by_expert_weights_back(at(rows), at(g_before), at(g_up), at(counts), R, E, D, U)
        compiled.by_expert_rows_back(at(g_before), at(up), at(g_out), at(counts), R, E, D, U)
        gx, gw = torch.empty_like(gy), torch.empty_like(weights)
        compiled.combine(at(g_out), at(slot), at(gx), T, D, R // T)
        compiled.unsort(at(g_sorted), at(slot), at(gw), R)
        return gx, None, None, gw, g_up, g_down, None


class CrossEntropy(torch.autograd.Function):
    """(C, V) logits and (C,) targets in, the sum of -log softmax out."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        from parrots.models import compiled

        logits, log_total = logits.contiguous(), logits.new_empty(len(logits))
        loss = compiled.cross_entropy(at(logits), at(targets), at(log_total), *logits.shape)
        ctx.save_for_backward(logits, targets, log_total)
        return logits.new_tensor(loss)

    @staticmethod
    @not_again
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        from parrots.models import compiled

        logits, targets, log_total = ctx.saved_tensors
        out = torch.empty_like(logits)
        compiled.cross_entropy_back(float(grads[0]), at(logits), at(targets), at(log_total), at(out), *logits.shape)
        return out, None
