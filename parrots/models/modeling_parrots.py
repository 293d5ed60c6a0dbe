"""The models of Parrots that no architecture of transformers describes, as one: Mistral with other projections and FFNs.

Exported beside the weights and loaded with `trust_remote_code=True`, so it imports nothing but torch and transformers.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MistralConfig, MistralForCausalLM


class ParrotsConfig(MistralConfig):
    """Mistral's, and `parrots`: the model as it was declared."""

    model_type = "parrots"

    def __init__(self, parrots=None, **kwargs):
        self.parrots = parrots or {}
        super().__init__(**kwargs)


class NormedLinear(nn.Linear):
    """A projection whose output is RMS-normalized, `width` features at a time."""

    def __init__(self, d_in: int, d_out: int, width: int, eps: float):
        super().__init__(d_in, d_out, bias=False)
        self.norm = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        width = len(self.norm)
        return F.rms_norm(super().forward(x).unflatten(-1, (-1, width)), (width,), self.norm, self.eps).flatten(-2)


class Block(nn.Module):
    """A feed-forward block, gated (SwiGLU) or not (GELU)."""

    def __init__(self, d_model: int, d_ff: int, gated: bool):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=False) if gated else None
        self.up_proj = nn.Linear(d_model, d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x):
        up = self.up_proj(x)
        return self.down_proj(F.gelu(up) if self.gate_proj is None else F.silu(self.gate_proj(x)) * up)


class Mixture(nn.Module):
    """Experts behind a linear router or a table of token ids, and those that every token passes through."""

    def __init__(self, config: ParrotsConfig, ffn: dict, gated: bool):
        super().__init__()
        d, d_ff, n_experts = config.hidden_size, ffn["d_ff"], ffn["n_experts"]
        self.top_k, self.renormalize = ffn.get("top_k", 2), ffn.get("renormalize", True)
        self.tokens = None  # set at each forward pass where there are tables
        if ffn.get("router") == "hash":
            self.gate = None
            self.register_buffer("table", torch.zeros(config.vocab_size, self.top_k, dtype=torch.int64))
        else:
            self.gate = nn.Linear(d, n_experts, bias=False)
        self.experts = nn.ModuleList(Block(d, d_ff, gated) for _ in range(n_experts))
        shared = ffn.get("n_shared", 0)
        self.shared = Block(d, shared * d_ff, gated) if shared else None

    def route(self, x):
        if self.gate is None:
            experts = self.table[self.tokens.flatten()]
            return torch.full(experts.shape, 1 / self.top_k, dtype=x.dtype, device=x.device), experts
        weights, experts = self.gate(x).float().softmax(-1).topk(self.top_k, dim=-1)
        if self.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights.to(x.dtype), experts

    def forward(self, hidden):
        x = hidden.flatten(0, -2)
        weights, experts = self.route(x)
        y = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            at, slot = (experts == e).nonzero(as_tuple=True)
            y = y.index_add(0, at, expert(x[at]) * weights[at, slot, None])
        y = y.view_as(hidden)
        return y if self.shared is None else y + self.shared(hidden)


class ParrotsForCausalLM(MistralForCausalLM):
    """Mistral's attention, cache and head around our projections and feed-forward blocks."""

    config_class = ParrotsConfig

    def __init__(self, config: ParrotsConfig):
        super().__init__(config)
        ffn, qk_norm = config.parrots["ffn"], config.parrots.get("qk_norm", "none")
        gated = ffn.get("activation", "swiglu") == "swiglu"
        d = config.hidden_size
        for layer in self.model.layers:
            if qk_norm != "none":
                for name, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
                    width = config.head_dim if qk_norm == "head" else heads * config.head_dim
                    setattr(layer.self_attn, name, NormedLinear(d, heads * config.head_dim, width, config.rms_norm_eps))
            layer.mlp = Mixture(config, ffn, gated) if ffn["kind"] == "moe" else Block(d, ffn["d_ff"], gated)
        # of the layers' model and not of this one, whose forward some trainers leave out (trl's chunked loss)
        self.model.register_forward_pre_hook(self.remember, with_kwargs=True)
        self.post_init()

    def remember(self, _, args, kwargs):
        """Give the token ids to mixtures that go by them."""
        for layer in self.model.layers:
            if isinstance(layer.mlp, Mixture) and layer.mlp.gate is None:
                layer.mlp.tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
