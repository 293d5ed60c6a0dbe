"""The claims of the two papers on language models, with margins fixed before any data: `parrots claims TABLE --of parrots`.

"Mixture of Parrots" (arXiv 2410.19034, figures 1, 5 and 6, sections 4.2 and 5.2) and "Optimal Sparsity" (arXiv 2508.18672).
Its synthetic figures, 4a and 4b, are declared with their sweeps. What a claim measures is a column: `knowledge`,
`commonsense` and `math` are means over the benchmarks of figures 7 to 12 (see `categories.py`), as shares.

The margins of the second paper are this project's, since it states none: half a point of accuracy for each doubling of
tokens a parameter is more than sampling noise over its span of six doublings, one of k within a point is "little", and the
peak "near 20" is one between 10 and 40.
"""

from typing import Any

from analysis.claims import AnyClaim, Offset, Peak, Slope

POINT = 0.01
LANGUAGE: dict[str, Any] = {"task": "corpus", "form": "logistic"}
BEYOND = 1.25e8
"""159M as the paper counts, where it includes a vocabulary matrix of 32.8M; no model of it lies between, by either count."""


def beside(name: str, statement: str, metric: str, at: str, side: str, points: float, **more: Any) -> Offset:
    """MoE beside dense models, within so many points of accuracy or F1 or apart by more."""
    said = {"name": name, "statement": statement, "metric": metric, "at": at, "side": side, "margin": points * POINT}
    return Offset.model_validate({**LANGUAGE, **said, **more})


PARROTS: tuple[AnyClaim, ...] = (
    beside("figure1a", "knowledge: MoE within 2 points of dense at equal N_total", "knowledge", "N_total", "equal", 2),
    beside("figure1b", "commonsense: MoE more than a point below dense at equal N_total", "commonsense", "N_total", "below", 1),
    beside("figure1c", "math: MoE more than a point below dense at equal N_total", "math", "N_total", "below", 1),
    *(
        beside(
            f"figure5-{name}",
            f"{name}: the MoE's gap between training and test is wider beyond 159M parameters",
            f"{name}_gap",
            "N_total",
            "above",
            0,
            form="linear",
            at_least={"N_total": BEYOND},
        )
        for name in ("gsm8k", "hendrycks_math")
    ),
    beside("figure6a", "knowledge: MoE above dense at equal perplexity", "knowledge", "perplexity", "above", 0),
    beside("figure6b", "commonsense: MoE within 2 points at equal perplexity", "commonsense", "perplexity", "equal", 2),
    beside("figure6c", "math: MoE within 2 points at equal perplexity", "math", "perplexity", "equal", 2),
    beside("section5-2", "MoE have a worse perplexity at equal N_total", "perplexity", "N_total", "above", 0, form="power"),
    Offset(
        name="section4-2",
        statement="the book known: an MoE beats a dense model of ten times its active parameters",
        task="phonebook",
        metric="entries_90",
        form="power",
        at="N_active",
        lead=10,
        side="above",
        margin=0,
    ),
)

TPP = "tokens_per_parameter"
SPARSITY: tuple[AnyClaim, ...] = (
    *(
        Slope(
            name=f"memory-{metric}",
            statement=f"{metric} improves by half a point or more for each halving of tokens a parameter",
            **LANGUAGE,
            metric=metric,
            along=TPP,
            side="below",
            margin=POINT / 2,
        )
        for metric in ("triviaqa", "hellaswag")
    ),
    *(
        Peak(
            name=f"reasoning-{metric}",
            statement=f"{metric} is best between 10 and 40 tokens a parameter",
            **LANGUAGE,
            metric=metric,
            along=TPP,
            least=10,
            most=40,
        )
        for metric in ("gsm8k", "gsm_plus")
    ),
    *(
        Slope(
            name=f"compute-{metric}",
            statement=f"{metric} is better with more active parameters at equal training loss",
            **LANGUAGE,
            metric=metric,
            along="N_active",
            given=("loss",),
            side="above",
            margin=0,
        )
        for metric in ("gsm8k", "gsm_plus")
    ),
    Slope(
        name="top-k",
        statement="gsm8k changes by less than a point for each doubling of top_k at equal active and total parameters",
        **LANGUAGE,
        metric="gsm8k",
        along="top_k",
        given=("N_active", "N_total"),
        side="equal",
        margin=POINT,
    ),
    *(
        Slope(
            name=f"gap-{name}",
            statement=f"{name} moves the gap between training and test as sparsity does: up",
            **{**LANGUAGE, "form": "linear"},
            metric="generalization_gap",
            along=along,
            given=given,
            side="above",
            margin=0,
            every_rate=name == "learning_rate",
        )
        for name, along, given in (
            ("sparsity", "n_experts", ("top_k", "d_model")),
            ("learning_rate", "lr", ("N_active", "N_total")),
            ("init_scale", "init_std", ("N_active", "N_total")),
        )
    ),
)

PAPERS = {"parrots": PARROTS, "sparsity": SPARSITY}
