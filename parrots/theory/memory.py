"""Theorems C.6 to C.11, 3.5 and 3.6 of arXiv 2410.19034, checked: what networks of neurons and experts hold."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from parrots.theory import memorization as built
from parrots.theory import precision, tails
from parrots.theory.check import Part, Rows, Sizes, generator

HOEFFDING_NOTE = (
    "Hoeffding's bound takes each expert to have the chance 1/K; that is so on average over routers, but in one that is drawn "
    "an expert with a long weight vector or a direction of its own has more, for all sequences alike"
)


def lemmas(sizes: Sizes, seed: int) -> Part:
    """Norms and inner products beside their bounds, and the width at which a network of them labels everything."""
    part = Part("C.6-C.8", "Norms and inner products of Gaussian vectors, and the width that C.9 needs")
    n = sizes.vectors
    rows: Rows = []
    for i, per_log in enumerate(sizes.per_log):
        D = tails.width_for(n, per_log)
        low, high = tails.norm_bounds(n, D)
        for k in range(sizes.draws):
            x_BSD, y_B = built.sequences(n, 1, D, generator(seed, 68, i, k))
            row = {"n": n, "width": D, "per_log": per_log, "draw": k, **tails.spread(x_BSD[:, 0], y_B)._asdict()}
            rows.append(row | {"norm_low": low, "norm_high": high, "inner_bound": tails.inner_bound(n, D)})
    part.tables["spread"] = rows
    room = {
        "largest squared norm over its bound (C.6, C.7)": max(r["largest_norm"] / r["norm_high"] for r in rows),
        "lower bound over the smallest squared norm (C.6, C.7)": max(r["norm_low"] / r["smallest_norm"] for r in rows),
        "largest inner product over its bound (C.8)": max(r["largest_inner"] / r["inner_bound"] for r in rows),
    }
    chance = (
        "our reading of C.6 to C.8: tails over all n vectors and all pairs, by Laurent & Massart and Chernoff; each may be "
        f"exceeded with probability {tails.DELTA:.0%} a draw"
    )
    for statement, worst in room.items():
        part.at_most(statement, worst, 1, len(rows), chance)
    right, tight = settled(rows, "per_log", "wrong"), settled(rows, "per_log", "leaks")
    part.at_most(f"width / ln n from which no label is wrong, n = {n:,}", right, 32, len(rows))
    note = "then every output is exactly the label times D / 2, which is what the proof shows"
    part.report(f"width / ln n from which no neuron lets another vector through, n = {n:,}", tight, len(rows), 32, note)
    return part


def settled(rows: Rows, by: str, fault: str) -> float:
    """The least value of column `by` from which on no row has a fault; inf if the last has some."""
    found = math.inf
    for value in sorted({row[by] for row in rows}, reverse=True):
        if any(row[fault] for row in rows if row[by] == value):
            break
        found = value
    return found


def theorem_c_9(sizes: Sizes, seed: int) -> Part:
    """The ReLU network labels every vector."""
    part = Part("C.9", "A ReLU network of n neurons labels n Gaussian vectors")
    n = sizes.sequences
    x_BSD, y_B = built.sequences(n, 1, tails.width_for(n), generator(seed, 9))
    x_BD = x_BSD[:, 0]
    network = built.relu_network(x_BD, y_B)
    wrong = built.wrong(network(x_BD, torch.zeros(n, dtype=torch.int64)), y_B)
    part.at_most(f"wrong labels at width 32 ln n = {x_BD.shape[1]}", wrong, 0, n)
    part.at_most("neurons", network.in_EFD.shape[1], n, 1)
    return part


def theorem_c_10(sizes: Sizes, seed: int) -> Part:
    """The same behind uniform attention, on sequences; other labels need other weights."""
    part = Part("C.10", "A one-layer dense transformer labels n Gaussian sequences")
    n = sizes.sequences
    x_BSD, y_B = built.sequences(n, sizes.tokens, tails.width_for(n), generator(seed, 10))
    network = built.transformer(x_BSD, y_B)
    output_B = network(x_BSD)
    part.at_most(f"wrong labels, {sizes.tokens} tokens a sequence", built.wrong(output_B, y_B), 0, n)
    other_B = y_B[torch.randperm(n, generator=generator(seed, 10, 1))]
    part.at_least("share of other labels that it gets wrong: the check can see", built.wrong(output_B, other_B) / n, 0.25, n)
    return part


def theorem_3_5(sizes: Sizes, seed: int) -> Part:
    """Behind a random router, experts label everything with O(mn/K + mK) active parameters, fewest near K = sqrt(n)."""
    part = Part("C.11 / 3.5", "K experts behind a random router label n Gaussian sequences")
    n, D = sizes.sequences, tails.width_for(sizes.sequences)
    rows: Rows = []
    x_BSD, y_B = built.sequences(n, sizes.tokens, D, generator(seed, 11))
    for K in sizes.experts:
        rows.append(measured(x_BSD, y_B, K, generator(seed, 11, K)))
    part.tables["experts"] = rows
    part.at_most("wrong labels over all K", sum(r["wrong"] for r in rows), 0, n * len(rows))
    note = "the largest expert sets the width of all; attention's 3 m^2, equal for all K, are left out"
    worst = max(rows, key=lambda r: r["active"] / r["active_bound"])
    part.at_most(
        f"active parameters over mn/K + mK: largest, at K = {worst['experts']}",
        worst["active"] / worst["active_bound"],
        4,
        len(rows),
        f"{note}; 4 stands for O's constant",
    )
    beyond = max(rows, key=lambda r: r["total"] / r["total_bound"])
    why = "experts are filled up to the largest, which at a handful of sequences an expert is several times the mean"
    part.report(
        f"total parameters over mn + mK: largest, at K = {beyond['experts']}",
        beyond["total"] / beyond["total_bound"],
        len(rows),
        note=why,
    )
    best = min(rows, key=lambda r: r["active"])["experts"]
    root = math.sqrt(n)
    part.at_most("K of the fewest active parameters, over sqrt(n), either way", max(best / root, root / best), 3, len(rows))
    return part


def measured(x_BSD: Tensor, y_B: Tensor, K: int, draw: torch.Generator) -> dict[str, float]:
    """Build the MoE with K experts for these sequences; its counts, its largest load and its errors."""
    n, _, D = x_BSD.shape
    network = built.transformer(x_BSD, y_B, built.gaussian_router(K, D, draw))
    return {
        "n": n,
        "width": D,
        "experts": K,
        "active": network.active,
        "total": network.total,
        "active_bound": D * n / K + D * K,
        "total_bound": D * n + D * K,
        "largest_load": network.experts.in_EFD.shape[1],
        "wrong": built.wrong(network(x_BSD), y_B),
    }


def loads(sizes: Sizes, seed: int) -> Part:
    """The largest load of an expert beside Hoeffding's bound. A step of the proof of C.11, looked at and not relied on."""
    part = Part("C.11, loads", "The largest load of an expert beside Hoeffding's bound")
    n = sizes.routed
    rows: Rows = []
    routers: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
        "Gaussian": built.gaussian_router,
        "unit-norm": built.unit_router,
    }
    for D in (sizes.routed_width, tails.width_for(n)):
        x_BD = torch.randn(n, D, generator=generator(seed, 12, D))
        for (name, router), K, k in product(routers.items(), sizes.routed_experts, range(sizes.draws)):
            load = int(built.route(router(K, D, generator(seed, 13, D, K, k)), x_BD).bincount().max())
            row = {"router": name, "n": n, "width": D, "experts": K, "draw": k, "largest": load, "even": n / K}
            rows.append(row | {"hoeffding": tails.hoeffding(n, K)})
    part.tables["loads"] = rows
    near = min(sizes.routed_experts, key=lambda K: abs(math.log(K / math.sqrt(n))))
    for D, name in product(dict.fromkeys(r["width"] for r in rows), routers):
        mine = [r for r in rows if r["router"] == name and r["width"] == D]
        worst = max(mine, key=lambda r: r["largest"] / r["hoeffding"])
        if near != worst["experts"]:
            here = max((r for r in mine if r["experts"] == near), key=lambda r: r["largest"])
            at = f"{name} router, m = {D}, K = {near}, n = {n:,}"
            part.at_most(f"largest load, {at}", here["largest"], here["hoeffding"], sizes.draws, HOEFFDING_NOTE, must=False)
        at = f"{name} router, m = {D}, K = {worst['experts']}, the worst of all K, n = {n:,}"
        part.at_most(f"largest load, {at}", worst["largest"], worst["hoeffding"], len(mine), HOEFFDING_NOTE, must=False)
    return part


def theorem_3_6(sizes: Sizes, seed: int) -> Part:
    """n <= c W: no family of networks reaches more labelings than it has members, and what is built stays above the line."""
    part = Part("3.6", "A dense model of W weights with c bits each holds n <= c W labels")
    x_BD = torch.randn(sizes.points, 2, generator=generator(seed, 36))
    rows: Rows = []
    for neurons, bits in ((1, 2), (1, 4), (2, 1), (2, 2)):
        W = neurons * (x_BD.shape[1] + 2)
        for b, reached in enumerate(precision.labelings(x_BD, neurons, bits), 1):
            rows.append({"weights": W, "bits": bits, "points": b, "reached": reached, "bound": min(b, W * bits)})
    part.tables["labelings"] = rows
    reached = max(math.log2(r["reached"]) / (r["weights"] * r["bits"]) for r in rows)
    part.at_most("log2 of the labelings reached over c W, every network of a few bits", reached, 1, len(rows))
    most = max(r["points"] / (r["weights"] * r["bits"]) for r in rows if r["reached"] == 2 ** r["points"])
    part.at_most("points of which every labeling is reached, over c W", most, 1, len(rows))
    growth: Rows = []
    for n in sizes.growth:
        x_BSD, y_B = built.sequences(n, 1, tails.width_for(n), generator(seed, 37, n))
        row = measured(x_BSD, y_B, round(math.sqrt(n)), generator(seed, 38, n))
        growth.append(row | {"dense": built.transformer(x_BSD, y_B).total})
    part.tables["growth"] = growth
    part.at_most("wrong labels of the MoE with K = sqrt(n), all n", sum(r["wrong"] for r in growth), 0, sum(sizes.growth))
    full = max(r["n"] / r["dense"] for r in growth)
    part.at_most("n / W of the dense construction: bits a weight that the count asks for", full, 1, len(growth))
    constant = growth[-1]["active"] / growth[-1]["active_bound"]
    for bits in (1, 32):
        note = "where the MoE built here has fewer active parameters than any dense model can have in all; extrapolated"
        apart = separation(constant, bits)
        part.report(
            f"n from which on active parameters at K = sqrt(n) are below n / c, c = {bits}", apart, len(growth), note=note
        )
    return part


def separation(constant: float, bits: float) -> float:
    """The n at which `constant` x 2 m sqrt(n), m = 32 ln n, falls below n / bits: by repeated substitution."""
    n = 1e6
    for _ in range(100):
        n = (constant * 2 * 32 * math.log(n) * bits) ** 2
    return n


def bits(sizes: Sizes, seed: int) -> Part:
    """The fewest bits of a weight with which every label is still right."""
    part = Part("3.5, bits", "The fewest bits a weight that still label everything")
    n = sizes.bits_vectors
    rows: Rows = []
    for per_log in (6, 8, 10, 32):
        D = tails.width_for(n, per_log)
        x_BSD, y_B = built.sequences(n, 1, D, generator(seed, 14, per_log))
        x_BD, K = x_BSD[:, 0], round(math.sqrt(n))
        router_ED = built.gaussian_router(K, D, generator(seed, 15, per_log))
        alone_B = torch.zeros(n, dtype=torch.int64)
        for name, expert_B, E in (("dense", alone_B, 1), ("MoE", built.route(router_ED, x_BD), K)):
            experts = built.memorize(x_BD, y_B, 1.0, expert_B, E)
            for b in (*sizes.bits, 32):
                tried = experts if b == 32 else precision.with_bits(experts, b)
                wrong = built.wrong(tried(x_BD, expert_B), y_B)
                rows.append({"network": name, "n": n, "width": D, "per_log": per_log, "bits": b, "wrong": wrong})
    part.tables["bits"] = rows
    bound = math.log2(n * tails.width_for(n))
    note = (
        "our reading of the bits a weight that 3.5 and 3.6 hide in their logarithms: log2(n m); the router keeps float32, "
        "3.6's count asks for n / W bits at least"
    )
    for name in ("dense", "MoE"):
        mine = [r for r in rows if r["network"] == name and r["per_log"] == 32]
        fewest = settled(mine, "bits", "wrong")
        part.at_most(f"fewest bits a weight, {name}, width 32 ln n", fewest, bound, len(mine), note)
    return part
