"""The bytes that a training step has alive at most, from the shapes alone. No torch.

Weights, gradients and Adam's two moments are float32. What the backward pass needs was read off autograd's saved tensors
(`parrots.training.live` counts them in the tests): per layer the two norms' inputs and outputs, queries, keys and values, the
attention's output, the FFN's pre-activation and activation, for experts once a row. Activations fall while gradients grow, both
layer by layer, so the peak is at one end of the backward pass: before its first layer, or after its last.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

from parrots.models.config import Model, MoE, count_total

Device = Literal["cpu", "cuda"]
LARGE = 100_000  # elements from which parrots.models.kernels keeps less
CUDA_WORKSPACE = 32 * 2**20  # of cuBLAS on Hopper; not measured here, where no GPU is


@dataclass(frozen=True)
class Step:
    """What one forward and backward pass takes, and how."""

    examples: int
    """Of one micro-batch."""
    seq_len: int
    """Tokens that a model reads of each."""
    counted: int
    """Of which the loss counts so many."""
    vocab_size: int
    input_dim: int = 0
    bfloat16: bool = False
    device: Device = "cpu"
    backend: str = "grouped"
    recompute: bool = False
    workers: int = 1
    accumulate: bool = False
    """Whether other micro-batches of the same step went before."""


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for. They are not all alive at once: `peak` is the most that is."""

    weights: int
    gradients: int
    adam: int
    activations: int
    """Before the first layer of the backward pass."""
    logits: int
    """With their log-probabilities and gradients."""
    peak: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f} GiB" for name, size in asdict(self).items())


def memory(model: Model, step: Step) -> Memory:
    """The most bytes of tensors that are alive in a training step after the first, on one worker."""
    total = count_total(model, step.vocab_size, step.input_dim)
    sharded = 4 * total.all // step.workers
    tokens, size = step.examples * step.seq_len, 2 if step.bfloat16 else 4
    one_layer = tokens * layer_bytes(model, step)
    kept = 4 * tokens * model.d_model if step.recompute else one_layer
    # the head's input, once gathered, once normed, and beside them what the last layer hands on
    counted = step.examples * step.counted
    outside = counted * model.d_model * (8 + size) + tokens * 4 * model.d_model + 24 * tokens
    cast = 2 * (total.all - total.norm - total.embedding) if step.bfloat16 else 0
    gathered = 4 * (total.all // model.n_layers) if step.workers > 1 else 0
    activations = kept * model.n_layers + outside + cast + gathered
    logits = counted * step.vocab_size * (8 + size)
    temporary = tokens * backward_bytes(model, step)
    again = one_layer - outside if step.recompute else 0  # the last layer's, when the head is done with
    before = activations + max(logits, temporary + again)
    after = sharded + one_layer + temporary
    state = 3 * sharded + (CUDA_WORKSPACE if step.device == "cuda" else 0)
    if step.accumulate:
        before += sharded
    return Memory(sharded, sharded, 2 * sharded, activations, logits, state + max(before, after))


def layer_bytes(model: Model, step: Step) -> int:
    """Bytes a token that a layer keeps for the backward pass."""
    d, d_kv, size = model.d_model, model.n_kv_heads * model.d_head, 2 if step.bfloat16 else 4
    tokens = step.examples * step.seq_len
    lean = step.device == "cuda" or tokens * d >= LARGE
    norms = 2 * (4 * d * (1 if lean else 2) + size * d + 4)
    attention = size * (d + (d + d_kv) + (d + 2 * d_kv)) + 4 * model.n_heads
    if model.qk_norm != "none":
        attention += 2 * size * (d + d_kv)
    return norms + attention + ffn_bytes(model, step)


def ffn_bytes(model: Model, step: Step) -> int:
    """Bytes a token that a layer's FFN keeps, with its router."""
    size, ffn, tokens = 2 if step.bfloat16 else 4, model.ffn, step.examples * step.seq_len
    gated = ffn.activation == "swiglu"

    def activated(rows: float) -> float:
        at_once = rows / model.n_experts if step.backend == "loop" else rows
        lean = step.device == "cpu" and gated and at_once * tokens * 2 * ffn.d_ff >= LARGE
        return rows * size * ffn.d_ff * ((3 if lean else 4) if gated else 2)

    if not isinstance(ffn, MoE):
        return round(activated(1))
    k = ffn.top_k
    rows = slots(ffn, step)
    copies = 3 * k if step.backend == "loop" else rows + k * (ffn.router != "hash")
    routed = 8 * ffn.n_experts + 48 * k
    shared = activated(ffn.n_shared) if ffn.n_shared else 0
    return round(activated(rows) + size * model.d_model * copies + routed + shared)


def slots(ffn: MoE, step: Step) -> float:
    """Rows a token that experts work on. Padded: each gets as many as the busiest.

    That is reckoned for a router that chooses at random for each token of the vocabulary, as one does at first.
    """
    if step.backend != "padded":
        return ffn.top_k
    drawn = min(step.examples * step.seq_len, step.vocab_size) * ffn.top_k / ffn.n_experts
    return ffn.top_k * min(1 + math.sqrt(2 * math.log(ffn.n_experts) / max(drawn, 1)), ffn.n_experts)


def backward_bytes(model: Model, step: Step) -> int:
    """Bytes a token of the gradients that pass through a layer's FFN on the way back."""
    ffn, size = model.ffn, 2 if step.bfloat16 else 4
    rows = slots(ffn, step) if isinstance(ffn, MoE) else 1
    if isinstance(ffn, MoE) and step.backend == "loop":
        rows /= ffn.n_experts  # one expert's at a time
    width = ffn.d_ff * (3 if ffn.activation == "swiglu" else 2)
    return round(8 * model.d_model + size * width * rows)
