"""One training step beside transformers' Mistral and Mixtral: same shapes, batch, optimizer and clipping; one table.

    python benchmarks/train_step.py [--compiled] [--width 256] [--out benchmarks/results/train_step-cpu.md]

Ours is the step that a trial takes, with its router losses, its counts for balance and its statistics. Theirs is the model
with its loss and its router loss, in its fastest implementation of experts. Both take turns, so a busy machine slows both.
On a CPU the time is that of one thread (process time), on a GPU it is the clock's. Without transformers the peer is not
measured; where megablocks is fit (docker/megablocks), our step on its kernels has a column. --compiled puts both through
torch.compile, on a CPU beside our step as trials take it there, in kernels of our own that torch.compile leaves alone. A GPU's
compiled shapes are one call for each width, --width 256, 512 and 1024, to stay below nine minutes each.
"""

import itertools
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench import DEVICE, Table, arguments, machine, medians, model, peer, some

from parrots.compiling import DEFAULT, GRAPHS, LAUNCH_BOUND
from parrots.models import hf, megablocks_backend
from parrots.models.moe import AUTO, MEGABLOCKS
from parrots.models.transformer import Transformer
from parrots.placement import EAGER, Placement
from parrots.spec import Training, Trial
from parrots.tasks.task import of_one_length
from parrots.training.batches import Share
from parrots.training.optim import adamw, descend
from parrots.training.parallel import precision, prepare
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
        shapes = itertools.product((2,), (32, 256), (1, 8, 64), (4, 128))
    else:
        shapes = itertools.product((2, 3, 4), (32, 64, 128, 256), (1, 8, 64), (4, 32, 128))
    return [Shape(*shape, 16, 64, "float32") for shape in shapes]


def gpu_shapes() -> list[Shape]:
    """The cluster's: L = 12, bfloat16, 16 sequences of 512."""
    return [Shape(12, d, e, 16, 512, 32_000, "bfloat16") for d in (256, 512, 1024) for e in (1, 8, 64)]


def training(shape: Shape) -> Training:
    """Ours; the peer's optimizer is made from it too."""
    return Training(steps=1000, batch_size=shape.batch, lr=1e-3, precision=shape.dtype)


def built(shape: Shape, backend: str = AUTO) -> Transformer:
    """Our model of this shape."""
    return Transformer(model(shape.layers, shape.d_model, shape.n_experts), shape.vocab_size, shape.seq_len, backend)


def drawn(shape: Shape) -> np.ndarray:
    """The batch: random tokens, one more than are read."""
    return np.random.default_rng(0).integers(shape.vocab_size, size=(shape.batch, shape.seq_len + 1))


def graphs(shape: Shape) -> str:
    """Our mode of torch.compile."""
    return GRAPHS if DEVICE == "cuda" and shape.d_model <= LAUNCH_BOUND else DEFAULT


def ours(shape: Shape, mode: str, backend: str = AUTO) -> Callable[[], None]:
    """A step of our trainer."""
    transformer, place = built(shape, backend), Placement(Path(), device=DEVICE, compile=mode)
    task = {"kind": "phonebook", "n_entries": 1000}
    trial = Trial.model_validate({"model": transformer.config, "task": task, "training": training(shape)})
    transformer.initialize(0)
    transformer.to(DEVICE)
    prepare(transformer, place)
    tokens = drawn(shape)
    examples = of_one_length(tokens, answer=1)
    counted = np.ones(tokens.shape, bool)
    counted[:, 0] = False
    share = Share(examples, counted, np.zeros(shape.batch, int), 1, shape.tokens, shape.tokens)
    optimizer = adamw(transformer, trial.training)

    def step() -> None:
        gradients(transformer, share, shape.batch, trial, place)
        descend(optimizer, 1.0)

    return step


def theirs(shape: Shape, mode: str, experts: str) -> Callable[[], None]:
    """A step of transformers' model of the same shape, with its own router loss at the same weight."""
    from transformers import AutoConfig, AutoModelForCausalLM

    declared = hf.describe(built(shape), ()) | {"use_cache": False}
    if shape.n_experts > 1:
        declared |= {"output_router_logits": True, "router_aux_loss_coef": training(shape).load_balance}
    torch.manual_seed(0)
    config = AutoConfig.for_model(declared.pop("model_type"), **declared)
    how = {"attn_implementation": "sdpa"} | ({"experts_implementation": experts} if experts else {})
    network = AutoModelForCausalLM.from_config(config, **how).to(DEVICE).train()
    if mode:
        network.compile(mode=mode)
    optimizer, tokens = adamw(network, training(shape)), drawn(shape)

    def step() -> None:
        ids = torch.from_numpy(tokens).to(DEVICE)
        with precision(training(shape), Placement(Path(), device=DEVICE)):
            targets = ids[:, 1:].contiguous()
            loss = network(input_ids=ids[:, :-1], labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(
        __doc__,
        compiled=(False, "both through torch.compile; on a GPU ours with CUDA graphs where it is launches that cost"),
        seconds=(1.0, "for each of the two, each shape"),
        width=(0, "the GPU's shapes of this d alone"),
    )
    mode = "default" if args.compiled else ""
    with_megablocks = not megablocks_backend.unfit(DEVICE)
    as_chosen = bool(mode) and DEVICE == "cpu"
    more = ["ours as chosen", "faster"] * as_chosen + [MEGABLOCKS] * with_megablocks
    table = Table(
        f"A training step, {'compiled' if mode else 'eager'}: {machine()}",
        "Milliseconds a step (median of seven blocks that take turns). Peer: the fastest of its implementations of experts.",
        ("L", "d", "E", "tokens a step", "ours", "transformers", "its experts", "faster", *more),
    )
    if DEVICE == "cuda":
        shapes = [shape for shape in gpu_shapes() if args.width in (0, shape.d_model)]
    else:
        shapes = cpu_shapes(args.compiled)
    ratios = []
    for shape in some(shapes, args):
        steps = {"ours": ours(shape, graphs(shape) if mode else EAGER)}
        best = fastest(shape, mode, args.seconds / 5) if peer() else ""
        if peer():
            steps["peer"] = theirs(shape, mode, best)
        if as_chosen:
            steps["chosen"] = ours(shape, EAGER)
        if with_megablocks and shape.n_experts > 1:
            steps["megablocks"] = ours(shape, EAGER, MEGABLOCKS)
        ms = medians(steps, args.seconds)
        faster = ms["peer"] / ms["ours"] if peer() else 0.0
        told = (f"{ms['peer']:.2f}", best, f"{faster:.2f}") if peer() else ("not measured", "", "")
        if as_chosen:
            told += (f"{ms['chosen']:.2f}", f"{ms['peer'] / ms['chosen']:.2f}" if peer() else "")
        if with_megablocks:
            told += (f"{ms['megablocks']:.2f}" if "megablocks" in ms else "",)
        table.row(shape.layers, shape.d_model, shape.n_experts, shape.tokens, f"{ms['ours']:.2f}", *told)
        ratios.append((shape.tokens, ms["peer"] / ms["chosen"] if as_chosen and peer() else faster))
        torch.compiler.reset()
    for few, said in ((True, "at most 64 tokens a step"), (False, "more than 64 tokens")):
        found = [ratio for tokens, ratio in ratios if (tokens <= 64) == few]
        if found and peer():
            mean = statistics.geometric_mean(found)
            table.say("")
            table.say(f"{said}: {min(found):.2f} to {max(found):.2f} times as fast, geometric mean {mean:.2f}")
    table.keep(args.out)


def fastest(shape: Shape, mode: str, seconds: float) -> str:
    """The peer's implementation of experts that is fastest for a shape; nothing for a dense model."""
    if shape.n_experts == 1:
        return ""
    if DEVICE == "cuda":
        return "grouped_mm"
    # batched_mm copies its experts for every token: gigabytes beyond a few tokens, where it is never the fastest
    kinds = [kind for kind in EXPERTS if kind != "batched_mm" or shape.tokens <= 512]
    ms = medians({kind: theirs(shape, mode, kind) for kind in kinds}, seconds)
    return min(ms, key=lambda kind: ms[kind])


if __name__ == "__main__":
    main()
