"""The sparse FFN's backends against one another: forward and backward, and how far each is from the machine's best.

    python benchmarks/moe_ffn.py [--out benchmarks/results/moe_ffn-cpu.md]

Top 2, SwiGLU, expert width d, an even router. Milliseconds are a thread's on a CPU (process time) and the clock's on a GPU.
Needs torch alone.
"""

import itertools
import statistics
from collections.abc import Callable
from functools import partial

import torch
from bench import DEVICE, Table, arguments, machine, medians, some

from parrots.models.moe import BACKENDS, PARTICULAR, chosen
from parrots.models.routers import Routing, softmax_top_k

K = 2


def case(T: int, d: int, E: int, dtype: torch.dtype) -> Callable[[str], None]:
    """Forward and backward of one backend."""
    draw = torch.Generator(DEVICE).manual_seed(0)

    def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
        return (std * torch.randn(shape, generator=draw, device=DEVICE)).to(dtype).requires_grad_()

    x_TD, up_EDU, down_EFD = normal(T, d), normal(E, d, 2 * d, std=d**-0.5), normal(E, d, d, std=d**-0.5)
    logits_TE, grad_TD = normal(T, E), normal(T, d).detach()

    def step(name: str) -> None:
        routing = softmax_top_k(logits_TE, min(K, E), renormalize=True)
        BACKENDS[name](x_TD, routing, up_EDU, down_EFD, True).backward(grad_TD)
        for tensor in (x_TD, up_EDU, down_EFD, logits_TE):
            tensor.grad = None

    return step


def routed(T: int, E: int) -> Routing:
    """Where the tokens go."""
    return softmax_top_k(torch.zeros(T, E), min(K, E), renormalize=True)


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__, seconds=(0.7, "for each backend, each shape"))
    unfit = {name: one.unfit(DEVICE) for name, one in PARTICULAR.items()}
    names = [name for name in BACKENDS if not unfit.get(name)]
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    table = Table(
        f"Sparse FFN, forward and backward: {machine()}, {dtype}",
        "Milliseconds, and which one is chosen.",
        ("d", "E", "tokens", *names, "chosen", "its time over the best"),
    )
    shapes = (
        itertools.product((256, 512, 1024), (8, 64), (8_192, 65_536))
        if DEVICE == "cuda"
        else itertools.product((32, 64, 128, 256), (1, 2, 4, 8, 16, 64), (64, 256, 512, 2048))
    )
    lost = []
    for d, E, T in some(shapes, args):
        step = case(T, d, E, dtype)
        ms = medians({name: partial(step, name) for name in names}, args.seconds)
        taken = chosen(torch.empty(T, d, dtype=dtype, device=DEVICE), routed(T, E), E)
        lost.append(ms[taken] / min(ms.values()))
        table.row(d, E, T, *(f"{ms[name]:.2f}" for name in names), taken, f"{lost[-1]:.2f}")
    mean, worst = statistics.geometric_mean(lost), max(lost)
    table.say("")
    table.say(f"What is chosen takes {mean:.2f} times the best (geometric mean), at worst {worst:.2f}.")
    table.keep(args.out)


if __name__ == "__main__":
    main()
