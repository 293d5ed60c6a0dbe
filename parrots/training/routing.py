"""What the routers of a micro-batch add to the loss, and what is written down of them."""

import torch
from torch import Tensor

from parrots.models.routers import ExpertChoice, Routing, count, load_balance_loss, z_loss
from parrots.models.transformer import Transformer
from parrots.spec import Trial
from parrots.training.batches import MicroBatch

# T tokens, R rows, L layers, G balancing groups, E experts


def rows(routings: list[Routing], batch: MicroBatch) -> Tensor:
    """(L, G, E) rows that each expert was sent of each balancing group, padding left out."""
    if batch.group_T is None:
        return torch.stack([routing.counts_E[None] for routing in routings])
    layers = []
    for routing in routings:
        G, E = batch.n_groups, len(routing.counts_E)
        group_R = batch.group_T[routing.tokens(len(batch.group_T))]
        layers.append(count(group_R * E + routing.expert_R, (G + 1) * E).view(G + 1, E)[:G])
    return torch.stack(layers)


def rows_before(before_LE: Tensor, read: int, trial: Trial) -> Tensor:
    """(L, 1, E) the rows of the step before, over all workers, as if it had had this one's `read` tokens."""
    return (before_LE * (read * trial.model.top_k / before_LE.sum(1, keepdim=True).clamp(min=1)))[:, None]


def auxiliary(routings: list[Routing], batch: MicroBatch, rows_LGE: Tensor, read: int | Tensor, trial: Trial) -> Tensor:
    """The weighted router losses, averaged over layers: this micro-batch's part of the step's.

    rows_LGE: of the whole of each group, over micro-batches and workers. read: tokens of the step; of each trial where the
    batch holds several, and then the losses' mean over trials is meant, in whatever shape it comes.
    """
    training = trial.training
    loss = torch.zeros((), device=batch.inputs_BS.device)
    for routing, rows_GE in zip(routings, rows_LGE, strict=True):
        if trial.is_balanced:
            assert routing.probs_TE is not None
            balance = load_balance_loss(routing.probs_TE, rows_GE, trial.model.top_k, batch.group_T)
            loss = loss + training.load_balance * balance
        if training.z_loss and routing.logits_TE is not None:
            loss = loss + training.z_loss * batch.total(z_loss(routing.logits_TE)) / read
    return loss / len(routings)


@torch.no_grad()
def entropies(routings: list[Routing], batch: MicroBatch, read: int | Tensor) -> Tensor:
    """(L,) this micro-batch's part of the mean entropy of a token's router probabilities, in nats; nan without any."""
    nothing = torch.full((), torch.nan, device=batch.inputs_BS.device)
    return torch.stack(
        [nothing if r.probs_TE is None else batch.total(torch.special.entr(r.probs_TE).sum(1)) / read for r in routings]
    )


def cutoffs(routings: list[Routing], share: float) -> Tensor:
    """(L, E) this micro-batch's part, its share of the step's sequences, of the mean cutoff of experts that choose."""
    chosen = [routing.cutoff_E * share for routing in routings if routing.cutoff_E is not None]
    return torch.stack(chosen) if chosen else torch.zeros(0, 1)


def learn_thresholds(model: Transformer, cutoff_LE: Tensor) -> None:
    """Let experts that choose remember how choosy they were in this step; without such experts, nothing."""
    if not len(cutoff_LE):
        return
    routers = [module for module in model.modules() if isinstance(module, ExpertChoice)]
    for router, cutoff_E in zip(routers, cutoff_LE, strict=True):
        router.learn(cutoff_E)
