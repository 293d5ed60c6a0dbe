"""Whether a cell's training fits into a device's memory, and what would make it fit. No torch."""

from dataclasses import replace

from parrots.models.choice import on_cpu
from parrots.models.memory import Memory, Step, memory
from parrots.spec import Cell
from sweeps.devices import Device

HEADROOM = 0.95  # of a GPU's memory; the rest goes to fragments between tensors and to CUDA itself


def step_of(cell: Cell, device: Device) -> Step:
    """What one worker does at once: all of its share of the batch."""
    trial, task = cell.trial, cell.trial.task
    examples, model = trial.training.batch_size // cell.workers, trial.model
    rows = examples * (task.seq_len - 1) * model.top_k
    return Step(
        examples,
        task.seq_len - 1,
        task.n_counted,
        task.vocab_size,
        task.input_dim,
        bfloat16=trial.training.precision == "bfloat16",
        device=device.kind,
        backend=on_cpu(rows, model.n_experts, model.d_model) if device.kind == "cpu" else "grouped",
        workers=cell.workers,
    )


def needed(cell: Cell, device: Device) -> Memory:
    """The memory that a cell takes of each of its devices."""
    return memory(cell.trial.model, step_of(cell, device))


def fits(found: Memory, device: Device) -> bool:
    """Whether so much fits."""
    return found.peak <= HEADROOM * device.memory


def counting(cell: Cell, device: Device) -> float:
    """By what share of a step's time it takes longer where micro-batches have to be counted before anything is learned from
    them: a forward pass without the head, at the rate of the others. 0 where the worker's share fits, or counts are not needed.
    """
    trial, step = cell.trial, step_of(cell, device)
    for micro in _halves(step.examples):
        if micro == 1 or fits(memory(trial.model, replace(step, examples=micro, accumulate=micro < step.examples)), device):
            break
    if not trial.counts_first(micro, step.examples):
        return 0.0
    head = 2 * step.vocab_size * trial.model.d_model
    return 1 / 3 - head * trial.tokens / trial.flops


def remedy(cell: Cell, device: Device) -> str:
    """What makes a cell fit that does not: the cheapest of smaller micro-batches, recomputing, more workers."""
    model, step = cell.trial.model, step_of(cell, device)
    for recompute in (False, True):
        for examples in _halves(step.examples):
            tried = replace(step, examples=examples, accumulate=examples < step.examples, recompute=recompute)
            if fits(memory(model, tried), device):
                parts = [f"micro-batches of {examples}"] * (examples < step.examples) + ["recomputing"] * recompute
                return " and ".join(parts)
    share = cell.trial.training.batch_size
    for workers in (2**i for i in range(1, 13) if share % 2**i == 0 and 2**i > cell.workers):
        tried = replace(step, examples=1, accumulate=share > workers, recompute=True, workers=workers)
        if fits(memory(model, tried), device):
            return f"{workers} workers, micro-batches of 1 and recomputing"
    return "a larger device"


def _halves(number: int) -> list[int]:
    """A number, half of it, and so on down to 1."""
    return [number] if number == 1 else [number, *_halves(-(-number // 2))]
