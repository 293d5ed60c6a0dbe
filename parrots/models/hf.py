"""Models as Hugging Face folders, both ways: safetensors, config.json and, with a vocabulary, a tokenizer.

A model that Mistral, Mixtral, Qwen3, Qwen3-MoE or OLMoE describes is written as one of them. The others (ungated, shared
experts, hash routing, raw weights without QK-norm) bring `modeling_parrots.py` along and load with `trust_remote_code`.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from parrots.frozen import canonical
from parrots.models.config import Dense, Model, MoE
from parrots.models.transformer import Transformer

CODE = Path(__file__).with_name("modeling_parrots.py")
CLASSES = {
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "parrots": "ParrotsForCausalLM",
}
NO_EFFECT: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "clip_qkv": (None,),
    "sliding_window": (None,),
    "mlp_only_layers": ([],),
    "decoder_sparse_step": (1,),
    "use_sliding_window": (False,),
}
"""Settings of theirs that ours has not, and the values at which they do nothing."""


def model_type(model: Model) -> str:
    """The architecture under which `model` loads elsewhere. ValueError for expert choice, which decodes with thresholds."""
    ffn = model.ffn
    if isinstance(ffn, MoE) and ffn.router == "expert_choice":
        raise ValueError("router='expert_choice': has no form that others load; token choice, hash and random routers have")
    if ffn.activation == "swiglu":
        if isinstance(ffn, Dense):
            return {"none": "mistral", "head": "qwen3", "projection": "parrots"}[model.qk_norm]
        if ffn.router in ("top_k", "random") and not ffn.n_shared:
            plain = "mixtral" if ffn.renormalize else "parrots"
            return {"none": plain, "head": "qwen3_moe", "projection": "olmoe"}[model.qk_norm]
    return "parrots"


def export(transformer: Transformer, folder: Path, vocabulary: Sequence[str] = ()) -> None:
    """Write `transformer` into a folder. ValueError where its architecture has no form that others load.

    vocabulary: the text of each token, of which `<bos>`, `<eos>` and `<pad>` are special; without it, no tokenizer.
    """
    config = describe(transformer, vocabulary)
    weights = to_hf({name: weight.detach().float() for name, weight in transformer.state_dict().items()}, transformer.config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    if config["model_type"] == "parrots":
        shutil.copy(CODE, folder)
    if vocabulary:
        tokenizer(vocabulary).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def describe(transformer: Transformer, vocabulary: Sequence[str]) -> dict[str, Any]:
    """config.json. `parrots` holds the model as we declare it, whatever the architecture."""
    model, ffn = transformer.config, transformer.config.ffn
    if transformer.input_dim:
        raise ValueError(f"input_dim={transformer.input_dim}: a model that reads vectors has no form that others load")
    kind = model_type(model)
    config = {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "dtype": "float32",
        "vocab_size": transformer.head.out_features,
        "hidden_size": model.d_model,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.d_head,
        "intermediate_size": ffn.d_ff,
        "hidden_act": "silu",
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "max_position_embeddings": len(transformer.cos),
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
        "sliding_window": None,
        "parrots": canonical(model),
    }
    for name in ("bos", "eos", "pad"):
        config[f"{name}_token_id"] = vocabulary.index(f"<{name}>") if f"<{name}>" in vocabulary else None
    if isinstance(ffn, MoE):
        config |= {"num_experts_per_tok": ffn.top_k, "norm_topk_prob": ffn.renormalize}
        config |= {"num_local_experts" if kind == "mixtral" else "num_experts": ffn.n_experts}
        if kind == "qwen3_moe":
            config |= {"moe_intermediate_size": ffn.d_ff, "decoder_sparse_step": 1, "mlp_only_layers": []}
    if kind == "parrots":
        config["auto_map"] = {
            "AutoConfig": "modeling_parrots.ParrotsConfig",
            "AutoModelForCausalLM": "modeling_parrots.ParrotsForCausalLM",
        }
    return config


def tokenizer(vocabulary: Sequence[str]) -> Any:
    """A tokenizer for text in which tokens stand between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({text: i for i, text in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad") if f"<{name}>" in vocabulary}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def load(folder: Path) -> Transformer:
    """A model from a folder, ours or another's. ValueError names what a `Transformer` cannot be."""
    config = json.loads((folder / "config.json").read_text())
    model = declared(config)
    weights: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    transformer = Transformer(model, config["vocab_size"], config["max_position_embeddings"])
    transformer.load_state_dict(from_hf({name: weight.float() for name, weight in weights.items()}, model))
    return transformer


def declared(config: dict[str, Any]) -> Model:
    """The `Model` that a config.json describes."""
    kind = config.get("model_type")
    if "parrots" in config:
        return Model.model_validate(config["parrots"])
    if kind not in CLASSES:
        raise ValueError(f"model_type={kind!r}: cannot be loaded; these can: {', '.join(CLASSES)}")
    for name, allowed in NO_EFFECT.items():
        if name in config and config[name] not in allowed:
            raise ValueError(f"{name}={config[name]!r}: cannot be loaded; only {allowed[0]!r} can")
    heads = config["num_attention_heads"]
    if (width := config.get("head_dim") or config["hidden_size"] // heads) * heads != config["hidden_size"]:
        raise ValueError(f"head_dim={width}: cannot be loaded; only hidden_size / num_attention_heads can")
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10_000.0)}
    if rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise ValueError("rope_parameters: scaled rotary positions cannot be loaded")
    ffn: Dense | MoE
    if kind in ("mistral", "qwen3"):
        ffn = Dense(d_ff=config["intermediate_size"])
    else:
        ffn = MoE(
            d_ff=config["moe_intermediate_size" if kind == "qwen3_moe" else "intermediate_size"],
            n_experts=config["num_local_experts" if "num_local_experts" in config else "num_experts"],
            top_k=config["num_experts_per_tok"],
            renormalize=kind == "mixtral" or config["norm_topk_prob"],
        )
    return Model(
        d_model=config["hidden_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=config.get("num_key_value_heads") or heads,
        ffn=ffn,
        tie_embeddings=config.get("tie_word_embeddings", False),
        rope_theta=rope["rope_theta"],
        norm_eps=config["rms_norm_eps"],
        qk_norm={"qwen3": "head", "qwen3_moe": "head", "olmoe": "projection"}.get(kind, "none"),
        init_std=config.get("initializer_range", 0.02),
    )


def names(model: Model, layer: int) -> dict[str, str]:
    """What theirs call the parts of a layer."""
    kind = model_type(model)
    mlp = "block_sparse_moe" if kind == "mixtral" else "mlp"
    gate, up, down = ("w1", "w3", "w2") if kind == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    norm = "{}_proj.norm" if kind == "parrots" else "{}_norm.weight"
    parts = {"attention": "self_attn", "q_norm": "self_attn." + norm.format("q"), "k_norm": "self_attn." + norm.format("k")}
    parts |= {"mlp": mlp, "gate": gate, "up": up, "down": down}
    return {ours: name if ours in ("gate", "up", "down") else f"model.layers.{layer}.{name}" for ours, name in parts.items()}


def to_hf(ours: dict[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Our weights under their names and in their layout."""
    theirs = {"model.embed_tokens.weight": ours["embedding.weight"], "model.norm.weight": ours["norm.weight"]}
    if not model.tie_embeddings:
        theirs["lm_head.weight"] = ours["head.weight"]
    rotated = (model.n_heads + model.n_kv_heads) * model.d_head
    for layer in range(model.n_layers):
        mine, their = f"blocks.{layer}.", names(model, layer)

        def block(at: str, up_UD: Tensor, down_DF: Tensor, their: dict[str, str] = their) -> None:
            """One feed-forward block, its gate and up matrices apart."""
            if model.ffn.activation == "swiglu":
                theirs[f"{at}.{their['gate']}.weight"], up_UD = up_UD.chunk(2)
            theirs[f"{at}.{their['up']}.weight"], theirs[f"{at}.{their['down']}.weight"] = up_UD, down_DF

        qkv = ours[f"{mine}attention.qkv.weight"]
        qk = qkv[:rotated].unflatten(0, (2, -1, model.d_head // 2)).transpose(0, 1).flatten(0, 2)
        for name, weight in zip("qkv", (*qk.split([model.d_model, rotated - model.d_model]), qkv[rotated:]), strict=True):
            theirs[f"{their['attention']}.{name}_proj.weight"] = weight
        if model.qk_norm != "none":
            for name in "qk":
                theirs[their[f"{name}_norm"]] = ours[f"{mine}attention.qk_norm.{name}_weight"].transpose(0, 1).flatten()
        theirs[f"{their['attention']}.o_proj.weight"] = ours[f"{mine}attention.out.weight"]
        theirs[f"model.layers.{layer}.input_layernorm.weight"] = ours[f"{mine}attention_norm.weight"]
        theirs[f"model.layers.{layer}.post_attention_layernorm.weight"] = ours[f"{mine}ffn_norm.weight"]
        if isinstance(model.ffn, Dense):
            block(their["mlp"], ours[f"{mine}ffn.up.weight"], ours[f"{mine}ffn.down.weight"])
            continue
        if model.ffn.router == "hash":
            theirs[f"{their['mlp']}.table"] = ours[f"{mine}ffn.router.table_VK"].long()
        else:
            theirs[f"{their['mlp']}.gate.weight"] = ours[f"{mine}ffn.router.linear.weight"]
        experts = zip(ours[f"{mine}ffn.up_EDU"], ours[f"{mine}ffn.down_EFD"], strict=True)
        for e, (up_DU, down_FD) in enumerate(experts):
            block(f"{their['mlp']}.experts.{e}", up_DU.T, down_FD.T)
        if model.ffn.n_shared:
            block(f"{their['mlp']}.shared", ours[f"{mine}ffn.shared.up.weight"], ours[f"{mine}ffn.shared.down.weight"])
    return theirs


def from_hf(theirs: dict[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Their weights under our names and in our layout; the inverse of `to_hf`."""
    ours = {"embedding.weight": theirs["model.embed_tokens.weight"], "norm.weight": theirs["model.norm.weight"]}
    ours["head.weight"] = theirs["model.embed_tokens.weight" if model.tie_embeddings else "lm_head.weight"]
    for layer in range(model.n_layers):
        mine, their = f"blocks.{layer}.", names(model, layer)

        def block(at: str, their: dict[str, str] = their) -> tuple[Tensor, Tensor]:
            """One feed-forward block, its gate and up matrices in one."""
            ups = [their["up"]] if model.ffn.activation == "mlp" else [their["gate"], their["up"]]
            return torch.cat([theirs[f"{at}.{name}.weight"] for name in ups]), theirs[f"{at}.{their['down']}.weight"]

        q, k, v = (theirs[f"{their['attention']}.{name}_proj.weight"] for name in "qkv")
        qk = torch.cat([q, k]).unflatten(0, (-1, 2, model.d_head // 2)).transpose(0, 1).flatten(0, 2)
        ours[f"{mine}attention.qkv.weight"] = torch.cat([qk, v])
        if model.qk_norm != "none":
            for name in "qk":
                weight = theirs[their[f"{name}_norm"]].unflatten(0, (-1, 2, model.d_head // 2))
                ours[f"{mine}attention.qk_norm.{name}_weight"] = weight.transpose(0, 1)
        ours[f"{mine}attention.out.weight"] = theirs[f"{their['attention']}.o_proj.weight"]
        ours[f"{mine}attention_norm.weight"] = theirs[f"model.layers.{layer}.input_layernorm.weight"]
        ours[f"{mine}ffn_norm.weight"] = theirs[f"model.layers.{layer}.post_attention_layernorm.weight"]
        if isinstance(model.ffn, Dense):
            ours[f"{mine}ffn.up.weight"], ours[f"{mine}ffn.down.weight"] = block(their["mlp"])
            continue
        if model.ffn.router == "hash":
            ours[f"{mine}ffn.router.table_VK"] = theirs[f"{their['mlp']}.table"].long()
        else:
            ours[f"{mine}ffn.router.linear.weight"] = theirs[f"{their['mlp']}.gate.weight"]
        experts = [block(f"{their['mlp']}.experts.{e}") for e in range(model.n_experts)]
        ours[f"{mine}ffn.up_EDU"] = torch.stack([up_UD.T for up_UD, _ in experts])
        ours[f"{mine}ffn.down_EFD"] = torch.stack([down_DF.T for _, down_DF in experts])
        if model.ffn.n_shared:
            up, down = f"{mine}ffn.shared.up.weight", f"{mine}ffn.shared.down.weight"
            ours[up], ours[down] = block(f"{their['mlp']}.shared")
    return ours
