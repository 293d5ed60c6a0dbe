"""What a training step does between its matrix products, compiled by numba for one core of a CPU.

Each kernel passes over memory once where a chain of operators would several times, and costs one call where calls are what
a small step waits for. Tensors come as addresses of contiguous float32 (int64 where said): a call then takes a microsecond.
Gradients are written out; parrots/models/fused.py decides when all this runs, kernels.py and moe.py have the plain formulas.
"""

from parrots.models.compiled.blocks import (
    attend_block,
    attend_block_back,
    linear,
    linear_back,
    swiglu_block,
    swiglu_block_back,
)
from parrots.models.compiled.decoding import STRIP, beginnings, decode, read, spread
from parrots.models.compiled.experts import (
    by_expert,
    by_expert_rows_back,
    by_expert_weights_back,
    combine,
    dispatch,
    sort,
    top_k,
    top_k_back,
    unsort,
)
from parrots.models.compiled.optimizer import adamw, norm
from parrots.models.compiled.rows import cross_entropy, cross_entropy_back, rms_norm, rms_norm_back, swiglu, swiglu_back

__all__ = [
    "STRIP",
    "adamw",
    "attend_block",
    "attend_block_back",
    "beginnings",
    "by_expert",
    "by_expert_rows_back",
    "by_expert_weights_back",
    "combine",
    "cross_entropy",
    "cross_entropy_back",
    "decode",
    "dispatch",
    "linear",
    "linear_back",
    "norm",
    "read",
    "rms_norm",
    "rms_norm_back",
    "sort",
    "spread",
    "swiglu",
    "swiglu_back",
    "swiglu_block",
    "swiglu_block_back",
    "top_k",
    "top_k_back",
    "unsort",
]
