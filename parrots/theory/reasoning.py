"""Theorems 3.2 and 3.3 and corollary 3.4 of arXiv 2410.19034, checked: paths of length 2 take width, not experts."""

import numpy as np

from parrots.theory import bottleneck, length2
from parrots.theory.check import Part, Rows, Sizes, generator

BATCH = 2000  # random graphs at once
THRESHOLDS = (0.25, 0.5, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.5)


def theorem_3_3(sizes: Sizes, seed: int) -> Part:
    """The transformer of width |V| answers every graph it is shown, and its threshold matters."""
    part = Part("3.3", "A one-layer dense transformer of width |V| solves length-2 path")
    V = sizes.all_graphs
    graphs = length2.all_graphs(V)
    part.at_most(f"wrong answers, every graph on {V} vertices", length2.wrong(length2.build(V), graphs), 0, len(graphs))
    V = sizes.all_neighbourhoods
    graphs = length2.all_neighbourhoods(V)
    wrong = length2.wrong(length2.build(V), graphs)
    part.at_most(f"wrong answers, every subset of the edges of s and d, |V| = {V}", wrong, 0, len(graphs))
    part.tables["thresholds"] = [
        {"threshold": t, "wrong": length2.wrong(length2.build(V, t), graphs) / len(graphs)} for t in THRESHOLDS
    ]
    off = min(length2.wrong(length2.build(V, length2.THRESHOLD + by), graphs) for by in (-1, 1))
    part.at_least("wrong answers with the threshold one lower or one higher: the check can see", off, 1, 2 * len(graphs))
    V, count, wrong, yes = sizes.random_vertices, sizes.random_graphs, 0, 0
    network, draw = length2.build(V), generator(seed, 33)
    for start in range(0, count, BATCH):
        graphs = length2.random_graphs(min(BATCH, count - start), V, draw)
        wrong += length2.wrong(network, graphs)
        yes += int(length2.joined(graphs).sum())
    note = f"{yes / count:.1%} of them have a path"
    part.at_most(f"wrong answers, random graphs, |V| = {V}", wrong, 0, count, note)
    part.at_most(f"width of the transformer that answers them, |V| = {V}", network.width, V, 1)
    return part


def theorem_3_2(sizes: Sizes, seed: int) -> Part:
    """Embeddings narrower than theorem 3.2 asks lose answers whatever reads them."""
    part = Part("3.2", "A narrow one-layer MoE cannot, whatever the number of experts")
    V = sizes.between
    rows: Rows = []
    for largest in (1, 3, 7):
        for width in range(1, V + 1):
            draw = np.random.default_rng([seed, 32, largest, width])
            tried = [draw.integers(0, largest + 1, (V, width)) for _ in range(sizes.embeddings)]
            tried = [one for one in tried if one.any()]
            bits = bottleneck.bits(V, largest)
            wrong = min(bottleneck.least_wrong(one) for one in tried)
            rows.append({"embedding": f"random, 0 to {largest}", "width": width, "bits": bits, "wrong": wrong})
    for width in range(1, V + 1):
        folded = np.eye(width, dtype=int)[np.arange(V) % width]
        bits, wrong = bottleneck.bits(-(-V // width), 1), bottleneck.least_wrong(folded)
        rows.append({"embedding": "vertices share coordinates", "width": width, "bits": bits, "wrong": wrong})
    for row in rows:
        row["vertices between"], row["width x bits"] = V, row["width"] * row["bits"]
    part.tables["bottleneck"] = rows
    narrow = [row["wrong"] for row in rows if row["width x bits"] < V]
    part.at_least(
        f"least share of wrong answers with width x bits below the {V} vertices between s and d",
        min(narrow),
        4.0**-V,
        len(narrow),
        "a share of the pairs of neighbourhoods; the best read-out of each embedding, which no number of experts beats",
    )
    without = [row["width x bits"] for row in rows if row["wrong"] == 0]
    part.at_least("fewest width x bits of an embedding that loses nothing", min(without), V, len(rows))
    return part


def corollary_3_4(sizes: Sizes, seed: int) -> Part:
    """With as many parameters, more than about (log N)^2 experts make an MoE too narrow. Arithmetic on counts."""
    part = Part("3.4", "Of equal parameters, an MoE with more than (log N)^2 experts is too narrow")
    matched: Rows = []
    crossings: Rows = []
    for V in sizes.matched:
        log_squared = bottleneck.log_length(V) ** 2
        limit = bottleneck.too_many(V)
        crossings.append({"V": V, "experts": limit, "log_squared": log_squared, "ratio": limit / log_squared})
        for K in np.unique(np.geomspace(1, 64 * log_squared, 60).round().astype(int)).tolist():
            width = bottleneck.widest(V, K)
            matched.append({"V": V, "experts": K, "log_squared": log_squared, "width": width, "needed": bottleneck.needed(V)})
    part.tables |= {"matched": matched, "crossings": crossings}
    note = (
        "our reading: dense and MoE have equal totals, so the MoE's width is about |V| / sqrt(K), below 3.2's |V| / log2 N "
        "beyond K = (log2 N)^2; constants are taken as 1, N = 2 (|V| - 1); attention is not multiplied by K, which makes it 4 K"
    )
    ratios = [row["ratio"] for row in crossings]
    part.at_most("experts from which on it is too narrow, over (log2 N)^2: largest over |V|", max(ratios), 4, len(ratios), note)
    part.at_least("the same: smallest over |V|", min(ratios), 1, len(ratios), note)
    dense = min(V / bottleneck.needed(V) for V in sizes.matched)
    part.at_least("width of the dense transformer over what 3.2 asks: smallest over |V|", dense, 1, len(ratios))
    return part
