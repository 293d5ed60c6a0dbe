"""What a model is, how many parameters it has in each group and how many of them a token touches. No torch.

The axes of every figure are these counts, so they are kept by group and an axis says which groups it adds up:
`N_total` and `N_active` leave out embedding and head (DESIGN, decision 8); nothing here is called "num_params".
"""

from dataclasses import dataclass, fields
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen

Activation = Literal["swiglu", "mlp"]
Router = Literal["top_k", "expert_choice", "hash", "random"]
Count = Annotated[int, Field(ge=1)]


class Dense(Frozen):
    """A feed-forward block that every token passes through."""

    kind: Literal["dense"] = "dense"
    d_ff: Count
    activation: Activation = "swiglu"
    """swiglu: three matrices, silu(x W_gate) * (x W_up) W_down. mlp: two, gelu(x W_up) W_down (the paper's)."""


class MoE(Frozen):
    """`n_experts` feed-forward blocks of width `d_ff`, of which a router sends each token to `top_k`."""

    kind: Literal["moe"] = "moe"
    d_ff: Count
    n_experts: Count
    top_k: Count = 2
    activation: Activation = "swiglu"
    renormalize: bool = True
    """Divide the chosen router weights by their sum, as Mixtral does."""
    router: Router = "top_k"
    """top_k: each token takes its `top_k` most probable experts (with top_k=1 and raw weights: Switch). expert_choice: each
    expert takes its most probable tokens of a sequence, `top_k` a token on average. hash: by the token's id, from a fixed
    table. random: as top_k, with a matrix that is drawn and never trained."""
    n_shared: Annotated[int, Field(ge=0)] = 0
    """Experts of the same width that every token passes through, beside those that it is sent to."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.n_experts:
            raise ValueError(f"top_k={self.top_k}: at most n_experts={self.n_experts}")
        if self.router == "expert_choice" and self.renormalize:
            raise ValueError("router='expert_choice': a token has no set of experts to renormalize over; set renormalize=False")
        if self.router == "top_k" and self.top_k == 1 and self.renormalize:
            raise ValueError("top_k=1: renormalized weights are all 1 and give the router no gradient; set renormalize=False")
        return self

    def finer(self, granularity: int) -> "MoE":
        """`granularity` times as many experts, and as many a token, each so many times narrower (arXiv 2402.07871).

        Total and active parameters stay, but for the router's. ValueError if the width cannot be divided so.
        """
        if granularity < 1 or self.d_ff % granularity:
            raise ValueError(f"granularity={granularity}: must divide d_ff={self.d_ff}")
        times = {name: getattr(self, name) * granularity for name in ("n_experts", "top_k", "n_shared")}
        return MoE.model_validate(self.model_dump() | times | {"d_ff": self.d_ff // granularity})


class Model(Frozen):
    """A pre-norm decoder: Mistral with a `Dense` FFN, Mixtral with an `MoE`. The vocabulary and length come with the task."""

    d_model: Count
    n_layers: Count
    n_heads: Count
    n_kv_heads: Count
    ffn: Annotated[Dense | MoE, Field(discriminator="kind")]
    tie_embeddings: bool = False
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    qk_norm: Literal["none", "head", "projection"] = "none"
    """RMSNorm of queries and keys before their rotation: of each head (Qwen3), or of all heads together (OLMoE)."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Weights ~ N(0, init_std), cut at three standard deviations."""
    depth_scaled_init: bool = False
    """Divide the deviation of what writes to the residual by sqrt(2 n_layers) (GPT-2)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads}: must divide d_model={self.d_model}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads={self.n_kv_heads}: must divide n_heads={self.n_heads}")
        if self.d_head % 2:
            raise ValueError(
                f"n_heads={self.n_heads}: leaves heads of odd width {self.d_head}, and rotary embedding turns pairs"
            )
        return self

    @property
    def name(self) -> str:
        """For people, as in `d32-E8k2`; two models may share one."""
        return f"d{self.d_model}-" + (f"E{self.n_experts}k{self.top_k}" if self.n_experts > 1 else f"f{self.ffn.d_ff}")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def n_experts(self) -> int:
        """Experts a layer; 1 for a dense model."""
        return self.ffn.n_experts if isinstance(self.ffn, MoE) else 1

    @property
    def top_k(self) -> int:
        """Experts a token; 1 for a dense model."""
        return self.ffn.top_k if isinstance(self.ffn, MoE) else 1


@dataclass(frozen=True)
class Counts:
    """Trained parameters by group. `N` is the axis of the figures: everything but embedding and head."""

    embedding: int
    head: int
    """0 when tied: the matrix is then counted once, as the embedding."""
    attention: int
    norm: int
    router: int
    ffn: int
    """A dense block's matrices."""
    experts: int
    shared: int
    """Experts that every token passes through."""

    @property
    def N(self) -> int:
        """Parameters without embedding and head."""
        return self.attention + self.norm + self.router + self.ffn + self.experts + self.shared

    @property
    def paper(self) -> int:
        """As on the axes of arXiv 2410.19034: norms left out, one vocabulary matrix counted in."""
        return self.N - self.norm + self.embedding

    @property
    def all(self) -> int:
        """Every parameter that the built model has."""
        return self.N + self.embedding + self.head


GROUPS = tuple(field.name for field in fields(Counts))


def check_input(model: Model, input_dim: int) -> None:
    """ValueError for a model that wants tokens where its inputs are vectors of this width."""
    if input_dim and model.tie_embeddings:
        raise ValueError("tie_embeddings=True: inputs are vectors here, and share no matrix with the head")
    if input_dim and isinstance(model.ffn, MoE) and model.ffn.router == "hash":
        raise ValueError("router='hash': goes by a token's id, and inputs are vectors here")


def count_total(model: Model, vocab_size: int, input_dim: int = 0) -> Counts:
    """Parameters that exist, by group. input_dim: width of inputs that are vectors, whose projection is the embedding."""
    return _count(model, vocab_size, input_dim, experts_per_layer=model.n_experts)


def count_active(model: Model, vocab_size: int, input_dim: int = 0) -> Counts:
    """Parameters that one token's loss touches, by group: `top_k` experts a layer, and the router whole.

    Where experts choose, `top_k` is what a token gets on average. The embedding counts whole although a token looks up
    one row, as is the custom; `N` leaves it out anyway.
    """
    return _count(model, vocab_size, input_dim, experts_per_layer=model.top_k)


def _count(model: Model, vocab_size: int, input_dim: int, experts_per_layer: int) -> Counts:
    d, layers, ffn = model.d_model, model.n_layers, model.ffn
    block = (3 if ffn.activation == "swiglu" else 2) * d * ffn.d_ff
    sparse = isinstance(ffn, MoE)
    d_kv = model.n_kv_heads * model.d_head
    qk_norm = {"none": 0, "head": 2 * model.d_head, "projection": d + d_kv}[model.qk_norm]
    return Counts(
        embedding=(input_dim or vocab_size) * d,
        head=0 if model.tie_embeddings else vocab_size * d,
        attention=layers * (2 * d * d + 2 * d * d_kv),
        norm=layers * (2 * d + qk_norm) + d,
        router=layers * d * ffn.n_experts if isinstance(ffn, MoE) and ffn.router in ("top_k", "expert_choice") else 0,
        ffn=0 if sparse else layers * block,
        experts=layers * experts_per_layer * block if sparse else 0,
        shared=layers * ffn.n_shared * block if isinstance(ffn, MoE) else 0,
    )


def flops_per_token(model: Model, vocab_size: int, seq_len: int, input_dim: int = 0) -> int:
    """Forward FLOPs a token, head and causal attention included, averaged over a sequence of `seq_len` inputs.

    Two a weight of each matrix the token meets (norms and look-up are not matrices), and 4 d for each position it
    attends to, of which a causal token has (seq_len + 1) / 2 on average. Training costs three times this.
    """
    active = count_active(model, vocab_size)
    router = active.router
    if isinstance(model.ffn, MoE) and model.ffn.router == "random":
        router = model.n_layers * model.d_model * model.n_experts  # computed with, though never trained
    weights = active.attention + router + active.ffn + active.experts + active.shared
    weights += (vocab_size + input_dim) * model.d_model  # a look-up costs nothing, a projection of vectors does
    return 2 * weights + 2 * model.n_layers * model.d_model * (seq_len + 1)
