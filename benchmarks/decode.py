"""Greedy decoding of 1,000 phone-book prompts beside transformers' `generate`, and the one-forward shortcut apart.

    python benchmarks/decode.py [--out benchmarks/results/decode-cpu.md]

Prompts of 7 tokens, 9 new ones, all in one batch; the peer has the same weights, exported, and gives the same tokens. On a
CPU the time is that of one thread, on a GPU the clock's. Without transformers the peer is not measured.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench import DEVICE, Table, arguments, machine, medians, model, peer, some

from parrots.evaluation.accuracy import score
from parrots.evaluation.decode import generate
from parrots.models import hf
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.tasks.phonebook import PhoneBook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
PROMPT, NEW = 7, 9
SHAPES = [(2, 32, 1), (2, 32, 8), (12, 256, 1), (12, 256, 8)]


@torch.no_grad()
def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__, seconds=(5.0, "for each, each shape"))
    table = Table(
        f"Decoding 1,000 prompts: {machine()}",
        "Milliseconds, median. One forward: exact match of the same answers from one teacher-forced pass.",
        ("L", "d", "E", "ours", "transformers", "faster", "one forward"),
    )
    task = PhoneBook(n_entries=1000)
    test = task.make("test")
    prompts = torch.from_numpy(test.tokens_NS[:, :PROMPT].astype("int64")).to(DEVICE)
    length = torch.full((len(prompts),), PROMPT, device=DEVICE)
    for shape in some(SHAPES, args):
        ours = Transformer(model(*shape, init_std=0.1), task.vocab_size, task.seq_len)
        ours.initialize(0)
        ours.to(DEVICE).eval()
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: generate(ours, prompts, length, NEW),
            "forward": lambda ours=ours: score(ours, test, Placement(Path(), device=DEVICE)),
        }
        if peer():
            calls["theirs"] = theirs(ours, prompts)
            same = (calls["theirs"]()[:, PROMPT:] == calls["ours"]()).float().mean().item()
            assert same > 0.99, f"they agree on {same:.1%} of the tokens"
        ms = medians(calls, args.seconds)
        told = (f"{ms['theirs']:.1f}", f"{ms['theirs'] / ms['ours']:.1f}") if peer() else ("not measured", "")
        table.row(*shape, f"{ms['ours']:.1f}", *told, f"{ms['forward']:.1f}")
    table.keep(args.out)


def theirs(ours: Transformer, prompts: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Their decoding with our weights."""
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        hf.export(ours, Path(folder))
        network = AutoModelForCausalLM.from_pretrained(folder)  # nosec B615 # a folder of ours
    network = network.to(DEVICE).eval()
    mask = torch.ones_like(prompts)
    end: dict = {"do_sample": False, "max_new_tokens": NEW}
    return lambda: network.generate(prompts, attention_mask=mask, eos_token_id=None, pad_token_id=0, **end)


if __name__ == "__main__":
    main()
