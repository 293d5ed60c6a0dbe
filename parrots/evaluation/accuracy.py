"""Scores of a split from teacher-forced forward passes."""

import numpy as np
import torch
import torch.nn.functional as F

from parrots.evaluation.decode import generate
from parrots.models.routers import Routing
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.tasks.task import Examples, Scores

BATCH = 500  # examples a forward pass: a few MB of logits at these vocabularies


@torch.no_grad()
def score(model: Transformer, examples: Examples, place: Placement, routed: bool = False) -> Scores:
    """Loss and correctness of every token given the right ones before it; where `routed`, the experts that they went to.

    Every worker scores the whole split: sharded weights are gathered by all or by none.
    """
    nll_NS = np.zeros(examples.tokens_NS.shape, np.float32)
    right_NS = np.ones(examples.tokens_NS.shape, bool)
    experts = []
    for first in range(0, examples.n, BATCH):
        part = examples.take(slice(first, first + BATCH))
        S = part.tokens_NS.shape[1] if routed else int(part.length_N.max())  # what is padding for all is not computed
        rows = slice(first, first + BATCH), slice(1, S)
        tokens_BS = torch.from_numpy(part.tokens_NS[:, :S].astype(np.int64)).to(place.device)
        inputs_BS = torch.from_numpy(part.inputs(S)).to(place.device)
        out = model(inputs_BS)
        logits_BVS = out.logits.float().transpose(1, 2)
        nll_NS[rows] = F.cross_entropy(logits_BVS, tokens_BS[:, 1:], reduction="none").cpu().numpy()
        right_NS[rows] = (logits_BVS.argmax(1) == tokens_BS[:, 1:]).cpu().numpy()
        if routed:
            experts.append(first_expert(out.routings, inputs_BS.shape[:2]))
    return Scores(nll_NS, right_NS, expert_NSL=np.concatenate(experts) if routed else None)


def first_expert(routings: list[Routing], shape: torch.Size) -> np.ndarray:
    """(B, S, L) the expert that each token is sent to first; the most probable one where experts choose."""
    layers = [
        r.expert_R.view(shape.numel(), -1)[:, 0] if r.token_R is None or r.probs_TE is None else r.probs_TE.argmax(-1)
        for r in routings
    ]
    return torch.stack(layers, 1).view(*shape, -1).cpu().numpy() if layers else np.zeros((*shape, 0), np.int64)


@torch.no_grad()
def answer(model: Transformer, examples: Examples, new_tokens: int, stop: int, place: Placement) -> np.ndarray:
    """(N, new_tokens) what the model decodes greedily after each prompt; `stop` from where it first says so."""
    out_NS = np.full((examples.n, new_tokens), stop)
    for first in range(0, examples.n, BATCH):
        part = examples.take(slice(first, first + BATCH))
        length_B = torch.from_numpy(part.answer_N.astype(np.int64)).to(place.device)
        prompts_BS = torch.from_numpy(part.tokens_NS[:, : part.answer_N.max()].astype(np.int64)).to(place.device)
        room = model.cos.shape[0] - prompts_BS.shape[1] + 1
        said_BS = generate(model, prompts_BS, length_B, min(new_tokens, room), stop)
        out_NS[first : first + BATCH, : said_BS.shape[1]] = said_BS.cpu().numpy()
    return out_NS
