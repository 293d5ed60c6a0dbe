"""Which way to compute experts is the fastest on an eager CPU, as benchmarks/results/moe_ffn-cpu.md has it. No torch."""

MOST_GROUPS = 1024  # from so many experts on grouped_mm does not take them on a GPU: they are padded, for the busiest


def on_cpu(rows: int, n_experts: int, d_model: int) -> str:
    """The backend for so many rows (a token at an expert) in all."""
    each = rows // n_experts
    if n_experts == 1 or (n_experts <= 8 and each >= 512):
        return "loop"  # one expert's work at a time stays in the cache
    if n_experts >= 16 and (d_model <= 32 or (d_model <= 64 and each <= 8)):
        return "padded"
    return "grouped"
