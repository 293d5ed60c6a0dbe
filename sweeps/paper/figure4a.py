"""How large a phone-book a model knows, against its parameters (arXiv 2410.19034, figure 4a).

Claim      Dense models and MoE lie on one line in total parameters: at equal N_total the MoE's book is within 0.1 in log10 of
           the dense model's, and N_total foretells it better than N_active. In bits the same.
Command    parrots run figure4a [--scale laptop|h200|paper|smoke]
Cost       laptop: 7 models x 2 learning rates, three measures: 9 minutes planned on two cores. h200: assumed to take under 20
           minutes on one, at batch 4,096 and 100 exposures, which is not the paper's batch. paper: all 1,232 trials.
Expected   The paper: a dense and an MoE model of equal N_total know books of equal size. docs/LOG.md has our runs.

Three measures, side by side: the largest of a list of sizes with at least 90 % exact match, as in the paper; the same found
by bisection to 5 %, from where the list leaves off; and the bits that a model holds of a book too large for it.
"""

from typing import Any

from analysis.claims import Offset, Predicts, Threshold
from parrots.spec import Cell, Trial
from sweeps.search import Capacity
from sweeps.spec import Sweep, grid

SCALES = ("laptop", "smoke", "h200", "paper")

KNOWN = Threshold(axis="task.n_entries", metric="exact_match", target=0.9)


def claims(listed: list[int], oversized: int) -> list[Any]:
    """What is claimed of each measure; the first pair is the paper's."""
    made: list[Any] = []
    by_list = KNOWN.model_copy(update={"among": tuple(listed)})
    for name, metric, about in (
        ("listed", "entries_listed", {"threshold": by_list}),
        ("searched", "entries_90", {"threshold": KNOWN}),
        ("bits", "memory_bits", {"where": {"task.n_entries": oversized}}),
    ):
        shared: dict[str, Any] = {"task": "phonebook", "metric": metric, "form": "power", **about}
        what = "the bits held" if name == "bits" else f"the book known ({name})"
        made += [
            Predicts(name=name, statement=f"{what} follows N_total", predictor="N_total", rival="N_active", **shared),
            Offset(
                name=f"{name}-offset",
                statement=f"{what}: MoE within 0.1 of dense at equal N_total",
                at="N_total",
                side="equal",
                margin=0.1,
                **shared,
            ),
        ]
    return made


def dense(d_ff: int, activation: str = "swiglu") -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff, "activation": activation}


def moe(d_ff: int, n_experts: int, activation: str = "swiglu") -> dict[str, Any]:
    """Experts of this width, two a token."""
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts, "activation": activation}


def paper_models(widths: list[int], sparse_widths: list[int], experts: list[int]) -> list[dict[str, Any]]:
    """The paper's: twelve layers, ungated FFN as wide as the model, multi-head attention with heads of 64."""
    shapes = [(d, dense(d, "mlp")) for d in widths] + [(d, moe(d, e, "mlp")) for d in sparse_widths for e in experts]
    return [{"d_model": d, "n_heads": d // 64, "n_kv_heads": d // 64, "n_layers": 12, "ffn": ffn} for d, ffn in shapes]


def laptop(smoke: bool) -> Sweep:
    """d = 16, two layers; 200 exposures at the paper's batch of 32."""
    shapes = [dense(16), dense(32), dense(64), dense(96), moe(16, 4), moe(16, 8), moe(16, 16)]
    listed, rates, exposures, oversized = [100, 141, 200, 283, 400, 566, 800], [1e-2, 2e-2], 200.0, 1000
    if smoke:
        shapes, listed, rates, exposures, oversized = [dense(16), dense(32), moe(16, 4)], [20, 40], [1e-2], 2.0, 60
    base: dict[str, Any] = {
        "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": listed[0], "n_test": 1},
        "training": {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0, "steps": 1, "batch_size": 32},
    }
    arms = tuple(cell.trial for cell in grid(base, {"model.ffn": shapes, "training.lr": rates}))
    search = Capacity(arms=arms, low=listed[0] * 7 // 10, high=2 * listed[-1], exposures=exposures, listed=tuple(listed))
    sizes = [*listed, oversized]
    return Sweep(
        claims=tuple(claims(listed, oversized)),
        keep="none",
        search=None if smoke else search,
        cells=tuple(Cell(trial=search.trial(arm, size)) for arm in arms for size in sizes),
    )


def full(paper: bool) -> Sweep:
    """The paper's grid; or what one H200 does of it in 20 minutes, each cell within nine."""
    sizes = (
        [100_000, 500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000]
        if paper
        else [20_000, 40_000, 80_000, 160_000]
    )
    models = paper_models([256, 512, 1024], [256, 512], [8, 16, 32, 64]) if paper else paper_models([256], [256], [8, 16])
    rates, epochs, batch = ([5e-5, 1e-4, 5e-4, 1e-3], [2, 5, 10, 15], 32) if paper else ([1e-3], [100], 4096)
    trials = [
        Trial.model_validate(
            {
                "model": model,
                "task": {"kind": "phonebook", "n_entries": size},
                "training": {
                    "steps": -(-size * epoch // batch),
                    "batch_size": batch,
                    "lr": lr,
                    **({} if paper else {"precision": "bfloat16"}),
                },
            }
        )
        for model in models
        for size in sizes
        for lr in rates
        for epoch in epochs
    ]
    made = claims(sizes, sizes[-1])
    if paper:  # section 4.2; no smaller grid has dense models so much larger than the MoE
        ten_times = made[1].model_copy(
            update={
                "name": "ten-times",
                "statement": "an MoE beats a dense model of ten times its active parameters",
                "at": "N_active",
                "lead": 10.0,
                "side": "above",
                "margin": 0.0,
            }
        )
        made.append(ten_times)
    note = (
        "At batch 4,096 and 100 exposures, in bfloat16: not the paper's batch, which is 32. The largest book has 8.0 Mbit: "
        "bits of a model that holds a bit a parameter and has more of them end there."
    )
    return Sweep(
        note="" if paper else note,
        claims=(*made[:2], *made[4:]),
        keep="none",
        cells=tuple(Cell(trial=trial) for trial in trials),
    )


def sweep(scale: str) -> Sweep:
    """laptop and smoke: in miniature. h200 and paper: twelve layers."""
    return laptop(scale == "smoke") if scale in ("laptop", "smoke") else full(scale == "paper")
