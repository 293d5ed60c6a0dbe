"""Models as Hugging Face folders, both ways: safetensors, config.json and, with a vocabulary, a tokenizer.

A model that Mistral, Mixtral, Qwen3, Qwen3-MoE or OLMoE describes is written as one of them. The others (ungated, shared
experts, hash routing, raw weights without QK-norm) bring `modeling_parrots.py` along and load with `trust_remote_code`.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from parrots.frozen import canonical, one_line
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
    """A model from a folder, ours or another's. ValueError names what a `Transformer` cannot be, and what is no such folder."""
    about = folder / "config.json"
    try:
        config = json.loads(about.read_bytes())
        model = model_of(config)
        transformer = Transformer(model, config["vocab_size"], config["max_position_embeddings"])
    except ValidationError as error:
        raise ValueError(f"{about}: {one_line(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{about}: not JSON ({str(error).splitlines()[0]})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{about}: does not describe a model ({type(error).__name__}: {error})") from error
    weights: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            weights |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not safetensors ({error})") from error
    try:
        transformer.load_state_dict(from_hf({name: weight.float() for name, weight in weights.items()}, model))
    except RuntimeError as error:
        raise ValueError(f"{folder}: {str(error).strip().splitlines()[-1].strip()}") from error
    return transformer


def model_of(config: dict[str, Any]) -> Model:
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


class Part(NamedTuple):
    """One of our weights, the names under which theirs hold it, and how it is split into those and joined again."""

    ours: str
    theirs: list[str]
    split: Callable[[Tensor], Sequence[Tensor]] = lambda weight: [weight]
    join: Callable[[Sequence[Tensor]], Tensor] = lambda weights: weights[0]


def parts(model: Model) -> Iterator[Part]:
    """Every weight, once: what both directions read. A tied head is the embedding and has no part of its own."""
    yield Part("embedding.weight", ["model.embed_tokens.weight"])
    yield Part("norm.weight", ["model.norm.weight"])
    if not model.tie_embeddings:
        yield Part("head.weight", ["lm_head.weight"])
    for layer in range(model.n_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield Part(f"{ours}.attention_norm.weight", [f"{theirs}.input_layernorm.weight"])
        yield Part(f"{ours}.ffn_norm.weight", [f"{theirs}.post_attention_layernorm.weight"])
        yield from attention_parts(model, f"{ours}.attention", f"{theirs}.self_attn")
        mlp = "block_sparse_moe" if model_type(model) == "mixtral" else "mlp"
        yield from ffn_parts(model, f"{ours}.ffn", f"{theirs}.{mlp}")


def attention_parts(model: Model, ours: str, theirs: str) -> Iterator[Part]:
    """Theirs keep queries, keys and values apart, and each head's two halves together."""
    half, d_kv = model.d_head // 2, model.n_kv_heads * model.d_head

    def heads_first(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (2, -1, half)).transpose(0, 1).flatten(0, 2)

    def halves_first(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, 2, half)).transpose(0, 1).flatten(0, 2)

    def split(qkv: Tensor) -> Sequence[Tensor]:
        qk, v = qkv.split([model.d_model + d_kv, d_kv])
        return *heads_first(qk).split([model.d_model, d_kv]), v

    def join(qkv: Sequence[Tensor]) -> Tensor:
        return torch.cat([halves_first(torch.cat(list(qkv[:2]))), qkv[2]])

    yield Part(f"{ours}.qkv.weight", [f"{theirs}.{name}_proj.weight" for name in "qkv"], split, join)
    yield Part(f"{ours}.out.weight", [f"{theirs}.o_proj.weight"])
    if model.qk_norm != "none":
        norm = "_proj.norm" if model_type(model) == "parrots" else "_norm.weight"
        for name in "qk":
            yield Part(
                f"{ours}.qk_norm.{name}_weight",
                [f"{theirs}.{name}{norm}"],
                lambda weight: [heads_first(weight.flatten())],
                lambda weights: halves_first(weights[0]).view(2, -1, half),
            )


def ffn_parts(model: Model, ours: str, theirs: str) -> Iterator[Part]:
    """Theirs keep gate and up matrices apart, experts too, and write an expert's matrices as a linear layer's."""
    ffn = model.ffn
    ups, down = (["w1", "w3"], "w2") if model_type(model) == "mixtral" else (["gate_proj", "up_proj"], "down_proj")
    ups = ups if ffn.activation == "swiglu" else ups[1:]
    n = len(ups)

    def block(ours: str, theirs: str) -> Iterator[Part]:
        names = [f"{theirs}.{name}.weight" for name in ups]
        yield Part(f"{ours}.up.weight", names, lambda up_UD: up_UD.chunk(n), lambda ups: torch.cat(list(ups)))
        yield Part(f"{ours}.down.weight", [f"{theirs}.{down}.weight"])

    if isinstance(ffn, Dense):
        yield from block(ours, theirs)
        return
    if ffn.router == "hash":
        yield Part(
            f"{ours}.router.table_VK", [f"{theirs}.table"], lambda table: [table.long()], lambda tables: tables[0].long()
        )
    else:
        yield Part(f"{ours}.router.linear.weight", [f"{theirs}.gate.weight"])
    experts = [f"{theirs}.experts.{e}" for e in range(ffn.n_experts)]
    yield Part(
        f"{ours}.up_EDU",
        [f"{expert}.{name}.weight" for expert in experts for name in ups],
        lambda up_EDU: [part for up_DU in up_EDU for part in up_DU.T.chunk(n)],
        lambda parts: torch.stack([torch.cat(list(parts[i : i + n])).T for i in range(0, len(parts), n)]),
    )
    yield Part(
        f"{ours}.down_EFD",
        [f"{expert}.{down}.weight" for expert in experts],
        lambda down_EFD: [down_FD.T for down_FD in down_EFD],
        lambda downs: torch.stack([down_DF.T for down_DF in downs]),
    )
    if ffn.n_shared:
        yield from block(f"{ours}.shared", f"{theirs}.shared")


def to_hf(ours: dict[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Our weights under their names and in their layout."""
    return {
        name: weight for part in parts(model) for name, weight in zip(part.theirs, part.split(ours[part.ours]), strict=True)
    }


def from_hf(theirs: dict[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Their weights under our names and in our layout; the inverse of `to_hf`."""
    if absent := [name for part in parts(model) for name in part.theirs if name not in theirs]:
        raise ValueError(f"{absent[0]}: not among the weights (of those that this model has {len(absent)} are not)")
    ours = {part.ours: part.join([theirs[name] for name in part.theirs]) for part in parts(model)}
    return {"head.weight": ours["embedding.weight"], **ours}
