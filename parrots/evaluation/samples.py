"""What a trained model answers, example by example, beside the gold; and the experts that each token was sent to."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from parrots.evaluation.accuracy import answer
from parrots.models.routers import Routing
from parrots.placement import Placement
from parrots.record import weights_sha256
from parrots.spec import Trial
from parrots.tasks.store import load
from parrots.tasks.task import Split
from parrots.training import weights
from parrots.training.parallel import precision


class Sample(NamedTuple):
    """One example, token by token as text."""

    number: int
    """Of the example in its split."""
    prompt: list[str]
    gold: list[str]
    answer: list[str]
    """Decoded greedily where the task decodes; else the most probable token at each place, given the gold before it."""
    right: bool
    """The answer is the gold. Where several are right, a task's own score says more."""
    read: list[str]
    """What went through the model: tokens, or the numbers of vectors."""
    experts: list[list[list[int]]]
    """Of each layer with experts, those of each token read."""


@torch.no_grad()
def answered(trial: Trial, results: Path, split: Split, at_most: int) -> list[Sample]:
    """The first examples of a split, answered. ValueError if the trial's weights are not kept, or are not its record's."""
    kept = weights.path_of(trial.id, results / "weights")
    if not kept.exists():
        raise ValueError(f"no weights of {trial.id} in {results}; its sweep kept none, or it diverged")
    task, place = trial.task, Placement(results / "data")
    model = weights.load(trial, kept, weights_sha256(trial.id, results))
    examples = load(task, split, results / "data").take(slice(at_most))
    vocabulary = task.vocabulary
    with precision(trial.training, place):
        out = model(torch.from_numpy(examples.inputs()))
        chosen_NS = out.logits.argmax(-1).numpy()
        decoded_NS = answer(model, examples, task.decoded, vocabulary.index("<eos>"), place) if task.decoded else None
    N, S = chosen_NS.shape
    layers = [experts_of(routing, N * S) for routing in out.routings]
    samples = []
    for i in range(examples.n):
        tokens, first, end = examples.tokens_NS[i], int(examples.answer_N[i]), int(examples.length_N[i])
        gold = tokens[first:end]
        said = chosen_NS[i, first - 1 : end - 1] if decoded_NS is None else decoded_NS[i][: end - first]
        texts = [[vocabulary[t] for t in part] for part in (tokens[:first], gold, said)]
        read = [vocabulary[t] for t in tokens[: end - 1]] if not task.input_dim else [f"x{j}" for j in range(end - 1)]
        experts = [layer[i * S : i * S + end - 1] for layer in layers]
        prompt = texts[0] if not task.input_dim else []
        samples.append(Sample(i, prompt, texts[1], texts[2], bool(np.array_equal(gold, said)), read, experts))
    return samples


def experts_of(routing: Routing, T: int) -> list[list[int]]:
    """The experts of each of T tokens; none where experts chose others."""
    found: list[list[int]] = [[] for _ in range(T)]
    for token, expert in zip(routing.tokens(T).tolist(), routing.expert_R.tolist(), strict=True):
        found[token].append(expert)
    return found
