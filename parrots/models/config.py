"""What a model is, how many parameters it has in each group and how many of them a token touches. No torch.

The axes of every figure are these counts, so they are kept by group and an axis says which groups it adds up:
`N_total` and `N_active` leave out embedding and head (DESIGN, decision 8); nothing here is called "num_params".
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from parrots.frozen import Frozen

Activation = Literal["swiglu", "mlp"]
Count = Annotated[int, Field(ge=1)]


class Dense(Frozen):
    """A feed-forward block that every token passes through."""

    kind: Literal["dense"] = "dense"
    d_ff: Count
    activation: Activation = "swiglu"
    """swiglu: three matrices, silu(x W_gate) * (x W_up) W_down. mlp: two, gelu(x W_up) W_down (the paper's)."""


class MoE(Frozen):
    """`n_experts` feed-forward blocks of width `d_ff`, of which a learned router sends each token to `top_k`."""

    kind: Literal["moe"] = "moe"
    d_ff: Count
    n_experts: Count
    top_k: Count = 2
    activation: Activation = "swiglu"
    renormalize: bool = True
    """Divide the chosen router weights by their sum, as Mixtral does."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.n_experts:
            raise ValueError(f"top_k={self.top_k}: at most n_experts={self.n_experts}")
        if self.top_k == 1 and self.renormalize:
            raise ValueError("top_k=1: renormalized weights are all 1 and give the router no gradient; set renormalize=False")
        return self


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
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Weights ~ N(0, init_std), cut at three standard deviations."""

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
    """Parameters by group. `N` is the axis of the figures: everything but embedding and head."""

    embedding: int
    head: int
    """0 when tied: the matrix is then counted once, as the embedding."""
    attention: int
    norm: int
    router: int
    ffn: int
    """A dense block's matrices."""
    experts: int

    @property
    def N(self) -> int:
        """Parameters without embedding and head."""
        return self.attention + self.norm + self.router + self.ffn + self.experts

    @property
    def all(self) -> int:
        """Every parameter that the built model has."""
        return sum(asdict(self).values())


def count_total(model: Model, vocab_size: int) -> Counts:
    """Parameters that exist, by group."""
    return _count(model, vocab_size, experts_per_layer=model.n_experts)


def count_active(model: Model, vocab_size: int) -> Counts:
    """Parameters that one token's loss touches, by group: `top_k` experts a layer, and the router whole.

    The embedding counts whole although a token looks up one row, as is the custom; `N` leaves it out anyway.
    """
    return _count(model, vocab_size, experts_per_layer=model.top_k)


def _count(model: Model, vocab_size: int, experts_per_layer: int) -> Counts:
    d, layers = model.d_model, model.n_layers
    block = (3 if model.ffn.activation == "swiglu" else 2) * d * model.ffn.d_ff
    sparse = isinstance(model.ffn, MoE)
    return Counts(
        embedding=vocab_size * d,
        head=0 if model.tie_embeddings else vocab_size * d,
        attention=layers * (2 * d * d + 2 * d * model.n_kv_heads * model.d_head),
        norm=(2 * layers + 1) * d,
        router=layers * d * model.n_experts if sparse else 0,
        ffn=0 if sparse else layers * block,
        experts=layers * experts_per_layer * block if sparse else 0,
    )


def flops_per_token(model: Model, vocab_size: int, seq_len: int) -> int:
    """Forward FLOPs a token, head and causal attention included, averaged over a sequence of `seq_len` inputs.

    Two a weight of each matrix the token meets (norms and look-up are not matrices), and 4 d for each position it
    attends to, of which a causal token has (seq_len + 1) / 2 on average. Training costs three times this.
    """
    active = count_active(model, vocab_size)
    weights = active.attention + active.router + active.ffn + active.experts + vocab_size * model.d_model
    return 2 * weights + 2 * model.n_layers * model.d_model * (seq_len + 1)
