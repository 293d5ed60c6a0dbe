"""One training step beside transformers' Mistral and Mixtral: same shapes, batch, optimizer and clipping; one table.

    python benchmarks/train_step.py [--compiled] [--out benchmarks/results/train_step-cpu.md]

Ours is the step that a trial takes, with its router losses, its counts for balance and its statistics. Theirs is the model
with its loss and its router loss, in its fastest implementation of experts. Both take turns, so a busy machine slows both.
On a CPU the time is that of one thread (process time), on a GPU it is the clock's. Needs torch; without transformers the
peer is not measured.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from parrots.models.config import Dense, Model, MoE
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.provenance import processor
from parrots.spec import Training, Trial
from parrots.tasks.task import of_one_length
from parrots.training.batches import Share
from parrots.training.optim import adamw
from parrots.training.parallel import prepare
from parrots.training.trainer import gradients

os.environ.setdefault("HF_HUB_OFFLINE", "1")
EXPERTS = ("grouped_mm", "batched_mm", "eager")  # transformers' own implementations


class Shape(NamedTuple):
    """What is timed."""

    layers: int
    d_model: int
    n_experts: int
    batch: int
    seq_len: int
    vocab_size: int
    dtype: str

    @property
    def tokens(self) -> int:
        """Tokens a step."""
        return self.batch * self.seq_len


def cpu_shapes(compiled: bool) -> list[Shape]:
    """The laptop's: short sequences, float32. Compiled: fewer, since each takes most of a minute to compile."""
    if compiled:
        shapes = itertools.product((2,), (32, 128), (1, 8), (4, 128))
    else:
        shapes = itertools.chain(
            itertools.product((2,), (32, 64, 128, 256), (1, 8, 64), (4, 32, 128)),
            itertools.product((4,), (64,), (1, 8, 64), (4, 128)),
        )
    return [Shape(*shape, 16, 64, "float32") for shape in shapes]


def gpu_shapes() -> list[Shape]:
    """The cluster's: L = 12, bfloat16, 16 sequences of 512."""
    return [Shape(12, d, e, 16, 512, 32_000, "bfloat16") for d in (256, 512, 1024) for e in (1, 8, 64)]


def config(shape: Shape) -> Model:
    """FFN as wide as the model, two experts a token, half as many key-value heads as heads."""
    d = shape.d_model
    ffn = Dense(d_ff=d) if shape.n_experts == 1 else MoE(d_ff=d, n_experts=shape.n_experts)
    heads = max(4, d // 64)
    return Model(d_model=d, n_layers=shape.layers, n_heads=heads, n_kv_heads=heads // 2, ffn=ffn)


def ours(shape: Shape, device: str, mode: str) -> Callable[[], None]:
    """A step of our trainer."""
    training = Training(steps=1000, batch_size=shape.batch, lr=1e-3, precision=shape.dtype)
    task = {"kind": "phonebook", "n_entries": 1000}
    trial = Trial.model_validate({"model": config(shape), "task": task, "training": training})
    place = Placement(Path(), device=device, compile=mode)
    model = Transformer(trial.model, shape.vocab_size, shape.seq_len)
    model.initialize(0)
    model.to(device)
    prepare(model, place)
    tokens = np.random.default_rng(0).integers(shape.vocab_size, size=(shape.batch, shape.seq_len + 1))
    examples = of_one_length(tokens, answer=1)
    counted = np.ones(tokens.shape, bool)
    counted[:, 0] = False
    share = Share(examples, counted, np.zeros(shape.batch, int), 1, shape.tokens, shape.tokens)
    optimizer = adamw(model, training)

    def step() -> None:
        gradients(model, share, shape.batch, trial, place)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def theirs(shape: Shape, device: str, mode: str, experts: str) -> Callable[[], None]:
    """A step of transformers' model of the same shape. ImportError without transformers."""
    from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM

    model_config = config(shape)
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "intermediate_size": model_config.ffn.d_ff,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": model_config.n_heads,
        "num_key_value_heads": model_config.n_kv_heads,
        "max_position_embeddings": shape.seq_len,
        "sliding_window": None,
        "attn_implementation": "sdpa",
        "use_cache": False,
        "pad_token_id": None,
    }
    torch.manual_seed(0)
    if shape.n_experts == 1:
        model = MistralForCausalLM(MistralConfig(**sizes))
    else:
        sparse = {"num_local_experts": shape.n_experts, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.01}
        model = MixtralForCausalLM(MixtralConfig(**sizes, **sparse, output_router_logits=True, experts_implementation=experts))
    model.to(device).train()
    if mode:
        model.compile(mode=mode)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = np.random.default_rng(0).integers(shape.vocab_size, size=(shape.batch, shape.seq_len + 1))
    precise = shape.dtype == "float32"

    def step() -> None:
        ids = torch.from_numpy(tokens).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=not precise):
            targets = ids[:, 1:].contiguous()
            loss = model(input_ids=ids[:, :-1], labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def times(steps: dict[str, Callable[[], None]], device: str, seconds: float) -> dict[str, float]:
    """Median milliseconds of each, taking turns in blocks for about `seconds` each."""

    def block(step: Callable[[], None], n: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        clock = time.perf_counter if device == "cuda" else time.process_time
        began = clock()
        for _ in range(n):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (clock() - began) / n

    for step in steps.values():
        block(step, 3)
    n = {name: max(1, int(seconds / 7 / (block(step, 2) / 1e3))) for name, step in steps.items()}
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(7):
        for name, step in steps.items():
            rounds[name].append(block(step, n[name]))
    return {name: statistics.median(ms) for name, ms in rounds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each of the two, each shape")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    mode = "default" if args.compiled else ""
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, one thread"
    try:
        import transformers

        peer = f"transformers {transformers.__version__}"
    except ImportError:
        peer = ""
    how = "compiled" if mode else "eager"
    about = f"{datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}, {peer or 'no transformers'}"
    lines = [
        f"# A training step, {how}: {about}",
        "",
        "Milliseconds a step (median of seven blocks that take turns). Peer: the fastest of its implementations of experts.",
        "",
        "| L | d | E | tokens a step | ours | transformers | its experts | faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    ratios = []
    for shape in gpu_shapes() if device == "cuda" else cpu_shapes(args.compiled):
        kinds = EXPERTS if shape.n_experts > 1 else ("",)
        if shape.tokens > 512:  # one copy of its experts for every token: gigabytes, and never the fastest
            kinds = tuple(kind for kind in kinds if kind != "batched_mm")
        steps = {"ours": ours(shape, device, mode)}
        if peer:
            candidates = {kind: theirs(shape, device, "", kind) for kind in kinds}
            quick = times(candidates, device, args.seconds / 5) if len(kinds) > 1 else {"": 0.0}
            best = min(quick, key=lambda kind: quick[kind])
            steps["peer"] = theirs(shape, device, mode, best)
        ms = times(steps, device, args.seconds)
        told = f"{ms['peer']:.2f} | {best} | {ms['peer'] / ms['ours']:.2f}" if peer else "not measured | | "
        lines.append(f"| {shape.layers} | {shape.d_model} | {shape.n_experts} | {shape.tokens} | {ms['ours']:.2f} | {told} |")
        print(lines[-1], flush=True)
        if peer:
            ratios.append((shape.tokens, ms["peer"] / ms["ours"]))
        torch.compiler.reset()
    for few, said in ((True, "at most 64 tokens a step"), (False, "more than 64 tokens")):
        found = [ratio for tokens, ratio in ratios if (tokens <= 64) == few]
        if found:
            lines.append("")
            lines.append(f"{said}: {min(found):.2f} to {max(found):.2f} times as fast, geometric mean {geometric(found):.2f}")
            print(lines[-1])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")


def geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


if __name__ == "__main__":
    main()
