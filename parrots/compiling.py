"""Whether a trial's blocks are compiled, and how: chosen by the shape, the device and how long it trains. No torch.

On a GPU none of this has been measured yet: `python benchmarks/h200.py --only compiling` compares the three, a table a width,
beside what is chosen here.
"""

from dataclasses import replace

from parrots.models.choice import MOST_GROUPS
from parrots.models.config import MoE
from parrots.placement import AUTO, EAGER, Placement
from parrots.spec import Trial

DEFAULT, GRAPHS = "default", "reduce-overhead"
LAUNCH_BOUND = 512  # the widest model whose step is launches rather than arithmetic
LONG = 10_000  # steps; compiling takes half a minute to a minute, and a launch-bound step may gain some milliseconds


def resolved(trial: Trial, place: Placement, side_by_side: int = 1) -> Placement:
    """The place with its mode of compilation chosen, where that was left open."""
    return replace(place, compile=chosen(trial, place, side_by_side)) if place.compile == AUTO else place


def chosen(trial: Trial, place: Placement, side_by_side: int = 1) -> str:
    """The mode for a trial here, one of several that train side by side or alone.

    Eager on a CPU, where our kernels are faster than what torch.compile makes (benchmarks/results/train_step-compiled-cpu.md);
    for short trainings; for trials side by side, all of which a failing compiler would end; and for workers that share a trial,
    of whom one whose compiler fails would leave the others inside a collective. Elsewhere CUDA graphs where launches are what
    costs and nothing is in their way.
    """
    if not place.device.startswith("cuda") or max(place.world, side_by_side) > 1 or trial.training.steps < LONG:
        return EAGER
    return DEFAULT if trial.model.d_model > LAUNCH_BOUND or obstacle(trial, place) else GRAPHS


def obstacle(trial: Trial, place: Placement) -> str:
    """Why CUDA graphs, which repeat the same launches on the same shapes, are not for this trial here, or nothing.

    How many tokens each expert gets is no obstacle: `grouped` has as many rows every time, and reads where each expert's end
    from the device.
    """
    batch, ffn, task = trial.training.batch_size, trial.model.ffn, trial.task
    micro, sparse = min(place.micro_batch or batch, batch), isinstance(ffn, MoE)
    reasons = {
        "recomputed activations": place.recompute,
        f"{task.kind}: examples of many lengths": not task.one_length,
        f"micro_batch={micro}: the last of batch_size={batch} is smaller": batch % micro > 0,
        "router='expert_choice': rows are added up in another way": isinstance(ffn, MoE) and ffn.router == "expert_choice",
        f"backend={place.backend!r}: waits for the device": sparse and place.backend not in ("auto", "grouped"),
        f"n_experts={trial.model.n_experts}: padded, which waits for the device": trial.model.n_experts >= MOST_GROUPS,
        "precision='float32': grouped_mm then waits for the device": sparse and trial.training.precision == "float32",
    }
    return next((reason for reason, so in reasons.items() if so), "")
