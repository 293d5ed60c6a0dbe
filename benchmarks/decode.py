"""Greedy decoding of 1,000 phone-book prompts beside transformers' `generate`, and the one-forward shortcut apart.

    python benchmarks/decode.py [--out benchmarks/results/decode-cpu.md]

Prompts of 7 tokens, 9 new ones, all in one batch; the peer has the same weights, exported, and gives the same tokens. On a
CPU the time is that of one thread, on a GPU the clock's. Without transformers the peer is not measured.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from parrots.evaluation.accuracy import score
from parrots.evaluation.decode import generate
from parrots.models import hf
from parrots.models.config import Dense, Model, MoE
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.provenance import processor
from parrots.tasks.phonebook import PhoneBook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
PROMPT, NEW = 7, 9
SHAPES = [(2, 32, 1), (2, 32, 8), (12, 256, 1), (12, 256, 8)]


def milliseconds(calls: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """Median of each, taking turns."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if device == "cuda":
                torch.cuda.synchronize()
            began = clock()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            took[name].append(1e3 * (clock() - began))
    return {name: statistics.median(values) for name, values in took.items()}


@torch.no_grad()
def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    try:
        import transformers

        peer = f"transformers {transformers.__version__}"
    except ImportError:
        peer = ""
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, one thread"
    about = f"{datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}, {peer or 'no transformers'}"
    lines = [
        f"# Decoding 1,000 prompts: {about}",
        "",
        "Milliseconds, median. One forward: exact match of the same answers from one teacher-forced pass.",
        "",
        "| L | d | E | ours | transformers | faster | one forward |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    task = PhoneBook(n_entries=1000)
    test = task.make("test")
    prompts = torch.from_numpy(test.tokens_NS[:, :PROMPT].astype("int64")).to(device)
    length = torch.full((len(prompts),), PROMPT, device=device)
    for layers, d, experts in SHAPES:
        ffn = Dense(d_ff=d) if experts == 1 else MoE(d_ff=d, n_experts=experts)
        heads = max(4, d // 64)
        config = Model(d_model=d, n_layers=layers, n_heads=heads, n_kv_heads=heads // 2, ffn=ffn, init_std=0.1)
        ours = Transformer(config, task.vocab_size, task.seq_len)
        ours.initialize(0)
        ours.to(device).eval()
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: generate(ours, prompts, length, NEW),
            "forward": lambda ours=ours: score(ours, test, Placement(Path(), device=device)),
        }
        if peer:
            with tempfile.TemporaryDirectory() as folder:
                hf.export(ours, Path(folder))
                theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).to(device).eval()
            how = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            mask = torch.ones_like(prompts)
            calls["theirs"] = lambda theirs=theirs, how=how, mask=mask: theirs.generate(prompts, attention_mask=mask, **how)
            same = (calls["theirs"]()[:, PROMPT:] == calls["ours"]()).float().mean().item()
            assert same > 0.99, f"they agree on {same:.1%} of the tokens"
        ms = milliseconds(calls, device, args.rounds)
        told = f"{ms['theirs']:.1f} | {ms['theirs'] / ms['ours']:.1f}" if peer else "not measured | "
        lines.append(f"| {layers} | {d} | {experts} | {ms['ours']:.1f} | {told} | {ms['forward']:.1f} |")
        print(lines[-1], flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
