"""The sparse FFN's backends against one another: forward and backward, and how far each is from the machine's best.

    python benchmarks/moe_ffn.py [--out benchmarks/results/moe_ffn-cpu.md]

Top 2, SwiGLU, expert width d, an even router. Milliseconds are a thread's on a CPU (process time) and the clock's on a GPU.
Needs torch alone.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from parrots.models.moe import BACKENDS, fastest
from parrots.models.routers import softmax_top_k
from parrots.provenance import processor

K = 2


def case(T: int, d: int, E: int, device: str, dtype: torch.dtype) -> Callable[[str], None]:
    """Forward and backward of one backend."""
    draw = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
        return (std * torch.randn(shape, generator=draw, device=device)).to(dtype).requires_grad_()

    x_TD, up_EDU, down_EFD = normal(T, d), normal(E, d, 2 * d, std=d**-0.5), normal(E, d, d, std=d**-0.5)
    logits_TE, grad_TD = normal(T, E), normal(T, d).detach()

    def step(name: str) -> None:
        routing = softmax_top_k(logits_TE, min(K, E), renormalize=True)
        BACKENDS[name](x_TD, routing, up_EDU, down_EFD, True).backward(grad_TD)
        for tensor in (x_TD, up_EDU, down_EFD, logits_TE):
            tensor.grad = None

    return step


def times(step: Callable[[str], None], device: str, seconds: float) -> dict[str, float]:
    """Median milliseconds of each backend, in blocks that take turns."""
    clock = time.perf_counter if device == "cuda" else time.process_time

    def block(name: str, n: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        began = clock()
        for _ in range(n):
            step(name)
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (clock() - began) / n

    n = {name: max(1, int(seconds / 7 / (min(block(name, 1), block(name, 2)) / 1e3))) for name in BACKENDS}
    rounds = [{name: block(name, n[name]) for name in BACKENDS} for _ in range(7)]
    return {name: statistics.median(r[name] for r in rounds) for name in BACKENDS}


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.7, help="for each backend, each shape")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, one thread"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    lines = [
        f"# Sparse FFN, forward and backward: {datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}, {dtype}",
        "",
        "Milliseconds, and which one `fastest` chooses.",
        "",
        f"| d | E | tokens | {' | '.join(BACKENDS)} | chosen | its time over the best |",
        "|---|---|---|" + "---|" * (len(BACKENDS) + 2),
    ]
    print("\n".join(lines))
    shapes = (
        itertools.product((256, 512, 1024), (8, 64), (8_192, 65_536))
        if device == "cuda"
        else itertools.product((32, 64, 128, 256), (1, 2, 4, 8, 16, 64), (64, 256, 512, 2048))
    )
    lost = []
    for d, E, T in shapes:
        ms = times(case(T, d, E, device, dtype), device, args.seconds)
        chosen = fastest(T * min(K, E), E, d, device)
        lost.append(ms[chosen] / min(ms.values()))
        cells = " | ".join(f"{ms[name]:.2f}" for name in BACKENDS)
        lines.append(f"| {d} | {E} | {T} | {cells} | {chosen} | {lost[-1]:.2f} |")
        print(lines[-1], flush=True)
    mean, worst = statistics.geometric_mean(lost), max(lost)
    lines += ["", f"What is chosen takes {mean:.2f} times the best (geometric mean), at worst {worst:.2f}."]
    print(lines[-1])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
