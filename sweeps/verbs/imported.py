"""`parrots import`: what a model in a Hugging Face folder is, in our words; the other direction of `parrots export`."""

from dataclasses import asdict
from pathlib import Path

import click

from parrots.frozen import canonical_json
from parrots.models.config import GROUPS, count_active, count_total, flops_per_token
from sweeps.say import columns, out


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the model alone, as the `model` of a sweep.")
def import_model(folder: Path, as_json: bool) -> None:
    """Load the model in FOLDER (config.json and safetensors) and say what it is: its fields, parameters by group, FLOPs.

    For Mistral, Mixtral, Qwen3, Qwen3-MoE and OLMoE without what a model of ours cannot be, which is named, and for what
    `parrots export` wrote. Its weights are read, so what is said is what is there. From Python: parrots.models.hf.load.
    """
    from parrots.models import hf

    transformer = hf.load(folder)
    model, vocab_size, seq_len = transformer.config, transformer.head.out_features, len(transformer.cos)
    if as_json:
        click.echo(canonical_json(model))
        return
    out.print(f"{model.name} as {hf.model_type(model)}: {vocab_size:,} tokens, sequences of up to {seq_len:,}", style="bold")
    total, active = count_total(model, vocab_size), count_active(model, vocab_size)
    rows = [(name, f"{asdict(total)[name]:,}", f"{asdict(active)[name]:,}") for name in GROUPS]
    rows += [("N", f"{total.N:,}", f"{active.N:,}"), ("all", f"{total.all:,}", f"{active.all:,}")]
    columns(("parameters", "total", "active"), rows, left=("parameters",))
    forward = flops_per_token(model, vocab_size, seq_len)
    out.print(f"{3 * forward:.3g} FLOPs a token of a training step on {seq_len:,} tokens. N leaves out embedding and head.")
    out.print(canonical_json(model), soft_wrap=True, highlight=False, markup=False)
