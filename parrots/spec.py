"""A trial: one configuration with one seed. What it says is hashed and is all that may change its result.

Where and how it runs (workers, device, backend, micro-batch, paths) is placement, and stands nowhere in here.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from parrots.frozen import Frozen, canonical
from parrots.models.config import Counts, Model, MoE, check_input, count_active, count_total, flops_per_token
from parrots.tasks import task_from
from parrots.tasks.task import Split, Task

SEMANTICS = 1
"""What training means. Bumped with the golden losses, so that a changed meaning never passes for an old record."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Training(Frozen):
    """How weights are found: AdamW with decoupled weight decay. The defaults are the paper's, beyond grid and length."""

    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    """Examples a step, over all workers and micro-batches."""
    lr: Positive
    """The peak."""
    schedule: Literal["linear", "cosine"] = "linear"
    """From the peak to zero at the last step."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the steps over which the learning rate rises to its peak."""
    weight_decay: NotNegative = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Positive = 1e-8
    clip_norm: Positive = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrices multiply in; weights, optimizer, norms, softmax and losses are float32."""
    load_balance: NotNegative = 0.01
    """Weight of the load-balancing loss, averaged over layers; nothing to a dense model."""
    balance_group: Annotated[int, Field(ge=1)] | None = None
    """Examples over which load is balanced; by default the whole batch."""
    balance_by: Literal["this_step", "step_before"] = "this_step"
    """Whose rows for each expert the load-balancing loss goes by. Those of the step before need no pass that counts, where the
    batch comes in micro-batches, and the first step then balances nothing."""
    z_loss: NotNegative = 0.0
    """Weight of the router's z-loss, averaged over layers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % (self.balance_group or 1):
            raise ValueError(f"balance_group={self.balance_group}: must divide batch_size={self.batch_size}")
        if self.balance_group and self.balance_by == "step_before":
            raise ValueError(f"balance_by='step_before': is of whole batches; leave balance_group={self.balance_group} out")
        return self

    @property
    def group_size(self) -> int:
        """Examples of one balancing group."""
        return self.balance_group or self.batch_size


class Trial(Frozen):
    """What is trained, on what, how, from which seed (of the initial weights and the order of the data)."""

    model: Model
    task: Annotated[SerializeAsAny[Task], BeforeValidator(task_from)]
    training: Training
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_input(self.model, self.task.input_dim)
        return self

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this trial's meaning; equal for equal trials, on any machine."""
        said = {"trial": canonical(self), "task_version": self.task.version, "semantics": SEMANTICS}
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For people, as in `d32-E8k2-lr1e-2-s0`; two trials may share one."""
        return f"{self.model.name}-lr{short(self.training.lr)}-s{self.seed}"

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balancing loss has anything to do: elsewhere load is even by construction, or cannot be moved."""
        ffn = self.model.ffn
        return isinstance(ffn, MoE) and ffn.router == "top_k" and self.training.load_balance > 0

    def counts_first(self, micro: int, share: int) -> bool:
        """Whether a worker passes over its `share` of a batch to count rows, before it learns from `micro` examples at a time.

        It does where a balancing group reaches over micro-batches.
        """
        here = self.is_balanced and self.training.balance_by == "this_step"
        return here and micro < share and (micro % self.training.group_size > 0 or share % self.training.group_size > 0)

    @property
    def total(self) -> Counts:
        """Parameters that exist."""
        return count_total(self.model, self.task.vocab_size, self.task.input_dim)

    @property
    def active(self) -> Counts:
        """Parameters that a token touches."""
        return count_active(self.model, self.task.vocab_size, self.task.input_dim)

    @property
    def padded_len(self) -> int:
        """Tokens to which a step pads its examples, as expected; a model reads all but the last."""
        return self.task.padded_len(self.training.batch_size)

    @property
    def tokens(self) -> int:
        """D: tokens read in training, padding included: of examples that differ in length as many as are expected."""
        return self.training.steps * self.training.batch_size * (self.padded_len - 1)

    @property
    def flops(self) -> int:
        """C: training FLOPs, forward and backward."""
        task = self.task
        return 3 * self.tokens * flops_per_token(self.model, task.vocab_size, self.padded_len - 1, task.input_dim)


class Evaluation(Frozen):
    """A trained model asked something else: another distribution, or what it was trained on. A record of its own."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    """Before its metrics, as in regular/exact_match."""
    task: Annotated[SerializeAsAny[Task], BeforeValidator(task_from)]
    split: Split = "test"
    at_most: Annotated[int, Field(ge=1)] | None = None
    """Examples asked, from the first; by default all of the split."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split == "validation" and not self.task.validated:
            raise ValueError(f"split='validation': {self.task.kind} has train and test alone")
        return self

    def of(self, trial: Trial) -> str:
        """`TRIAL-EVALUATION`, the id of this evaluation of this trial."""
        said = {"evaluation": canonical(self), "task_version": self.task.version}
        return f"{trial.id}-{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]}"


class Cell(Frozen):
    """A trial, what its model is asked besides, and how many workers share it.

    Workers and lane are placement: they do not change the trial's id or its result.
    """

    trial: Trial
    evaluations: tuple[Evaluation, ...] = ()
    workers: Annotated[int, Field(ge=1)] = 1
    lane: Literal["auto", "packed", "group"] = "auto"
    """packed: with others into one process, where there is one worker; group: by a worker group of its own; auto: as fits."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trial.training.batch_size % self.workers:
            raise ValueError(f"workers={self.workers}: must divide training.batch_size={self.trial.training.batch_size}")
        if self.lane == "packed" and self.workers > 1:
            raise ValueError(f"lane='packed': cells of one worker are packed, and workers={self.workers}")
        own = self.trial.task
        for one in self.evaluations:
            if one.task.vocab_size != own.vocab_size or one.task.seq_len > own.seq_len:
                raise ValueError(
                    f"evaluation {one.name}: {one.task.vocab_size} tokens, {one.task.seq_len} an example; "
                    f"a model of {own.kind} knows {own.vocab_size} and reads {own.seq_len}"
                )
        names = [one.name for one in self.evaluations]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"evaluation {twice}: there are two of this name")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured: the task's own metrics, and NAME/METRIC of each evaluation."""
        return (*self.trial.task.metrics, *(f"{one.name}/{m}" for one in self.evaluations for m in one.task.metrics))


def short(x: float) -> str:
    """A float as people write it: 1e-2, 5e-4, 0.5."""
    mantissa, exponent = f"{x:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if not 0.1 <= x < 1000 else f"{x:g}"
