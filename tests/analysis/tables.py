"""A table of language models whose knowledge follows total parameters and whose reasoning follows active ones."""

import numpy as np
import pandas as pd

from analysis.categories import with_categories
from analysis.described import described

SHAPES = [(256, 1), (512, 1), (1024, 1), (2048, 1), (256, 8), (256, 64), (512, 8), (512, 32)]


def language_models(seeds: int = 1, noise: float = 0.02) -> pd.DataFrame:
    """A row a run, as somebody might keep them."""
    draw, rows = np.random.default_rng(0), []
    for d, experts in SHAPES:
        for seed in range(seeds):
            attention, ffn = 80 * d * d, 40 * d * d
            total, active = attention + ffn * experts, attention + ffn * min(experts, 2)
            shape = {"model": f"d{d}-E{experts}", "N_total": total, "N_active": active, "width": d, "depth": 20, "seed": seed}
            run = {**shape, "E": experts, "k": min(experts, 2), "tokens": 6.3e10}
            run["validation_loss"] = 1.8 + 400 * (0.95 * active + 0.05 * total) ** -0.33
            for metric, size in (("TriviaQA", total), ("nq_open", total), ("ARC-Challenge", active), ("gsm8k", active)):
                odds = np.log10(size / 3e7) * 2 + draw.normal(0, noise)
                run[metric] = 1 / (1 + np.exp(-odds))
            run["gsm8k_train"] = min(1.0, run["gsm8k"] + 0.05 * np.log10(total / 1e6))
            rows.append(run)
    return pd.DataFrame(rows)


def described_models(seeds: int = 1, noise: float = 0.02) -> pd.DataFrame:
    """The same, as a comparison takes it."""
    return with_categories(described(language_models(seeds, noise).assign(status="done", reason="")))
