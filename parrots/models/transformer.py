"""A pre-norm decoder as single-device maths: Mistral with a dense FFN, Mixtral with experts.

Nothing here knows of workers, precision or compilation; training/parallel.py wraps what this file builds.
"""

# B batch, S sequence, T = B*S tokens, D model, I input, V vocabulary, H heads, G key-value heads, C head width

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrots.models import fused
from parrots.models.cache import KVCache
from parrots.models.config import Dense, Model, check_input
from parrots.models.kernels import Linear, rms_norm, rotate, widened
from parrots.models.moe import AUTO, DenseFFN, SparseFFN, check_backend
from parrots.models.routers import ExpertChoice, Hash, Routing


class Output(NamedTuple):
    """What a forward pass gives."""

    logits: Tensor
    """(B, S, V), or (C, V) where only C positions were asked for."""
    routings: list[Routing]
    """One a layer, for the auxiliary loss and statistics; empty for a dense model."""


class RMSNorm(nn.Module):
    """RMS normalization over the last dim."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions; `n_kv_heads == n_heads` is multi-head attention.

    One matrix makes queries, keys and values. Its rows stand as [first halves of all query and key heads | their
    second halves | values], so that the rotation runs over long contiguous rows (1.8 ms a layer less of 9 at S = 15).
    """

    def __init__(self, config: Model):
        super().__init__()
        self.heads = [config.n_heads, config.n_kv_heads]
        self.d_head = config.d_head
        d_kv = config.n_kv_heads * config.d_head
        self.qkv = Linear(config.d_model, config.d_model + 2 * d_kv)
        self.qk_norm = None if config.qk_norm == "none" else QKNorm(config)
        self.out = Linear(config.d_model, config.d_model)

    def in_kernels(self, x_BSD: Tensor) -> bool:
        """Whether it is faster there with its norm and residual: with nothing between the product and the rotation."""
        B, S, _ = x_BSD.shape
        fits = self.qk_norm is None and fused.longest(self.d_head, B * self.heads[0]) >= S
        return fits and fused.takes_block(x_BSD, self.out.weight)

    def forward(self, x_BSD: Tensor, rotation: tuple[Tensor, Tensor], layer: int, cache: KVCache | None) -> Tensor:
        rotated = sum(self.heads) * self.d_head
        qkv = self.qkv(x_BSD)
        qk, v = qkv.split([rotated, self.heads[1] * self.d_head], dim=-1)
        if self.qk_norm is not None:
            qk = self.qk_norm(qk)
        q_BHSC, k_BGSC = rotate(qk, *rotation, self.d_head).split(self.heads, dim=1)
        v_BGSC = v.unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        seen = None
        if cache is not None:
            k_BGSC, v_BGSC, seen = cache.extend(layer, k_BGSC, v_BGSC)
        causal = seen is None and q_BHSC.shape[2] > 1
        gqa = self.heads[0] != self.heads[1]
        y_BHSC = F.scaled_dot_product_attention(q_BHSC, k_BGSC, v_BGSC, attn_mask=seen, is_causal=causal, enable_gqa=gqa)
        return self.out(y_BHSC.transpose(1, 2).flatten(2))


class QKNorm(nn.Module):
    """RMSNorm of queries and of keys, each head by itself or all heads together; rows laid out as in `Attention`."""

    def __init__(self, config: Model):
        super().__init__()
        self.heads, self.eps = [config.n_heads, config.n_kv_heads], config.norm_eps
        one = config.qk_norm == "head"
        self.over = (-3, -1) if one else (-3, -2, -1)
        # halves, heads (or one for all), half a head
        shapes = [(2, 1 if one else heads, config.d_head // 2) for heads in self.heads]
        self.q_weight, self.k_weight = (nn.Parameter(torch.ones(shape)) for shape in shapes)

    def forward(self, qk: Tensor) -> Tensor:
        return self.scaled(qk, self.q_weight, self.k_weight)

    def scaled(self, qk: Tensor, *weights: Tensor) -> Tensor:
        """Normed and multiplied by these weights, which may have leading dims as `qk` has."""
        parts = qk.unflatten(-1, (2, sum(self.heads), -1)).split(self.heads, dim=-2)
        scales = [torch.rsqrt(widened(x).square().mean(self.over, keepdim=True) + self.eps).to(x.dtype) for x in parts]
        return torch.cat([x * s * w for x, s, w in zip(parts, scales, weights, strict=True)], dim=-2).flatten(-3)


class Block(nn.Module):
    """Attention, then FFN, each behind its norm and beside its residual."""

    def __init__(self, config: Model, vocab_size: int, layer: int, backend: str):
        super().__init__()
        self.layer = layer
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn: DenseFFN | SparseFFN
        if isinstance(config.ffn, Dense):
            self.ffn = DenseFFN(config.d_model, config.ffn.d_ff, config.ffn.activation == "swiglu")
        else:
            self.ffn = SparseFFN(config.d_model, vocab_size, config.ffn, backend)

    def forward(
        self, x_BSD: Tensor, tokens_BS: Tensor, rotation: tuple[Tensor, Tensor], cache: KVCache | None
    ) -> tuple[Tensor, Routing | None]:
        attention, ffn = self.attention, self.ffn
        if cache is None and attention.in_kernels(x_BSD):
            norm, weights = self.attention_norm, (attention.qkv.weight, attention.out.weight)
            x_BSD = fused.AttentionBlock.apply(x_BSD, norm.weight, *weights, *rotation, *attention.heads, norm.eps)
        else:
            x_BSD = x_BSD + attention(self.attention_norm(x_BSD), rotation, self.layer, cache)
        if not isinstance(ffn, DenseFFN):
            y_BSD, routing = ffn(self.ffn_norm(x_BSD), tokens_BS)
            return x_BSD + y_BSD, routing
        if ffn.gated and fused.takes_block(x_BSD, ffn.down.weight):
            norm = self.ffn_norm
            return fused.SwiGLUBlock.apply(x_BSD, norm.weight, ffn.up.weight, ffn.down.weight, norm.eps), None
        return x_BSD + ffn(self.ffn_norm(x_BSD)), None


class Transformer(nn.Module):
    """`config` over a vocabulary, for inputs of up to `seq_len` tokens.

    backend: how a sparse FFN is computed, one of `moe.BACKENDS`, by default the fastest for the shape; the result is the
    same beyond rounding. input_dim: width of the vectors that are read in place of tokens; 0: tokens.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Model, vocab_size: int, seq_len: int, backend: str = AUTO, input_dim: int = 0):
        super().__init__()
        check_input(config, input_dim)
        check_backend(backend, config)
        self.config, self.input_dim = config, input_dim
        embedding = Linear(input_dim, config.d_model) if input_dim else nn.Embedding(vocab_size, config.d_model)
        self.embedding: nn.Linear | nn.Embedding = embedding
        self.blocks = nn.ModuleList(Block(config, vocab_size, layer, backend) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = Linear(config.d_model, vocab_size)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        half = torch.arange(config.d_head // 2)
        angles = torch.outer(torch.arange(seq_len), config.rope_theta ** (-half / (config.d_head // 2)))
        angles = angles.repeat(1, config.n_heads + config.n_kv_heads)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw every matrix from N(0, init_std) cut at three standard deviations, then the tables of hash routers.

        Norms are 1. The same on every worker.
        """
        generator = torch.Generator(self.embedding.weight.device).manual_seed(seed)
        for name, weight in self.named_parameters():
            if "norm" not in name:
                std = self.config.init_std
                if self.config.depth_scaled_init and name.endswith(("out.weight", "down.weight", "down_EFD")):
                    std /= (2 * self.config.n_layers) ** 0.5
                nn.init.trunc_normal_(weight, 0.0, std, -3 * std, 3 * std, generator=generator)
        for module in self.modules():
            if isinstance(module, Hash):
                module.draw(generator)

    def forward(self, tokens_BS: Tensor, cache: KVCache | None = None, at_C: Tensor | None = None) -> Output:
        """Logits of the token after each of `tokens_BS`, or (B, S, I) vectors, which follow what a cache holds.

        at_C: flat positions in (B * S) to which the logits are confined; a head over a large vocabulary is dear. ValueError
        for more than `seq_len` tokens, and where experts that choose among later tokens are asked to decode; `eval()` makes
        their choice causal.
        """
        if cache is not None and self.training and any(isinstance(module, ExpertChoice) for module in self.modules()):
            raise ValueError("router='expert_choice' looks at later tokens while it trains; decode with model.eval()")
        S = tokens_BS.shape[1]
        past = 0 if cache is None or isinstance(cache.length, Tensor) else cache.length  # a tensor may be on a GPU
        if past + S > len(self.cos):
            raise ValueError(f"{past + S} tokens: the model's seq_len is {len(self.cos)}")
        at = slice(S) if cache is None else cache.positions(S)
        rotation = self.cos[at], self.sin[at]
        x_BSD = self.embedding(tokens_BS).to(
            self.embedding.weight.dtype
        )  # a projection too: the residual is as precise as weights
        routings = []
        for block in self.blocks:
            x_BSD, routing = block(x_BSD, tokens_BS, rotation, cache)
            if routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.length = cache.length + S
        x = x_BSD if at_C is None else x_BSD.flatten(0, 1)[at_C]
        return Output(self.head(self.norm(x)), routings)
