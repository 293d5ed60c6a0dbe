"""How much of an H200 a training step makes use of: L = 20, sequences of 2,048, a dense model and a sparse one.

    python benchmarks/mfu.py [--out benchmarks/results/mfu-h200.md]

MFU is the FLOPs that the maths asks for, over what the GPU could have done meanwhile: 6 for each matmul parameter that a token
touches (the head's too, the look-up's not) and 6 L S d for causal attention, a token; what is computed again does not count.
Peak: 989 TFLOP/s, NVIDIA's figure for dense bfloat16 on an H200 (SXM). Blocks are compiled; the batch is the largest tried
that fits. Under nine minutes.
"""

import gc

import torch
from bench import DEVICE, Table, arguments, machine, medians, model, some
from train_step import Shape, ours

from parrots.models.config import count_active

PEAK = 989e12
BATCHES = (16, 8, 4, 2)  # sequences a step
TARGETS = {1: 45, 8: 28}  # per cent, by the number of experts


def shapes(smoke: bool) -> list[Shape]:
    """What is timed, at the largest batch; small enough for any machine where it is only tried out."""
    if smoke:
        return [Shape(2, 64, 1, 2, 64, 100, "float32")]
    return [Shape(20, d, n_experts, BATCHES[0], 2048, 32_000, "bfloat16") for d, n_experts in ((2048, 1), (1024, 8))]


def flops(shape: Shape) -> int:
    """Of a step, forward and backward."""
    active = count_active(model(shape.layers, shape.d_model, shape.n_experts), shape.vocab_size)
    matmul = active.attention + active.router + active.ffn + active.experts + active.head
    return shape.tokens * 6 * (matmul + shape.layers * shape.seq_len * shape.d_model)


def timed(shape: Shape, seconds: float) -> tuple[Shape, float]:
    """The shape at the first batch that fits, and its milliseconds a step."""
    for batch in [shape.batch] if DEVICE == "cpu" else BATCHES:
        shape = shape._replace(batch=batch)
        try:
            return shape, medians({"ours": ours(shape, "default" if DEVICE == "cuda" else "eager")}, seconds)["ours"]
        except torch.OutOfMemoryError:
            torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
    raise torch.OutOfMemoryError(f"{BATCHES[-1]} sequences do not fit")


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__, seconds=(10.0, "for each shape"))
    table = Table(
        f"MFU of a training step: {machine()}",
        f"Of {PEAK / 1e12:.0f} TFLOP/s, whatever this machine is; L = 20, sequences of 2,048, bfloat16, compiled.",
        ("d", "E", "sequences a step", "TFLOP a step", "milliseconds", "MFU, %", "to reach, %"),
    )
    for shape in some(shapes(args.smoke), args):
        reach = TARGETS[shape.n_experts]
        if DEVICE == "cpu" and not args.smoke:
            table.row(shape.d_model, shape.n_experts, "", "", "not measured (no GPU here)", "not measured", reach)
            continue
        shape, ms = timed(shape, args.seconds)  # noqa: PLW2901
        mfu = 100 * flops(shape) / (ms / 1e3) / PEAK
        told = (f"{flops(shape) / 1e12:.3g}", f"{ms:.1f}", f"{mfu:.2g}")
        table.row(shape.d_model, shape.n_experts, shape.batch, *told, reach)
        torch.compiler.reset()
    table.keep(args.out)


if __name__ == "__main__":
    main()
