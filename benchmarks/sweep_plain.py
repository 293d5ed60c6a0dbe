"""The peer of benchmarks/sweep.py: what a user of Ray and transformers writes. A trial a Tune function, a fresh TorchTrainer
for each, a transformers model, `generate` for the score.

    python benchmarks/sweep_plain.py cells.jsonl
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"RAY_TRAIN_V2_ENABLED": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "OMP_NUM_THREADS": "1"}

import ray
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from parrots.provenance import cores


def loop(config: dict[str, Any]) -> None:
    """Train and score one cell."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from parrots.models.hf import describe
    from parrots.models.transformer import Transformer
    from parrots.placement import Placement
    from parrots.spec import Cell
    from parrots.tasks.store import load
    from parrots.training.batches import shares
    from parrots.training.optim import lr_at

    trial = Cell.model_validate_json(config["cell"]).trial
    task, training = trial.task, trial.training
    folder = Path(config["folder"])
    shape = describe(Transformer(trial.model, task.vocab_size, task.seq_len - 1), task.vocabulary)
    torch.manual_seed(trial.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=True)
    for step, share in enumerate(shares(trial, load(task, "train", folder), Placement(folder))):
        optimizer.param_groups[0]["lr"] = lr_at(training, step)
        tokens_BS = torch.from_numpy(share.examples.tokens_NS.astype("int64"))
        counted_BS = torch.from_numpy(share.counted_BS)
        model(tokens_BS, labels=tokens_BS.masked_fill(~counted_BS, -100)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    test = load(task, "test", folder)
    answer = int(test.answer_N[0])
    tokens_NS = torch.from_numpy(test.tokens_NS.astype("int64"))
    model.eval()
    more = tokens_NS.shape[1] - answer
    said = model.generate(tokens_NS[:, :answer], max_new_tokens=more, min_new_tokens=more, do_sample=False, pad_token_id=0)
    train.report({"exact_match": float((said == tokens_NS).all(1).float().mean())})


def drive(config: dict[str, Any]) -> None:
    """One trial: a group of one worker."""
    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=1),
        run_config=train.RunConfig(storage_path=str(Path(config["folder"]) / "train"), callbacks=[TuneReportCallback()]),
    ).fit()


def main() -> None:
    folder = str(Path.cwd())
    cells = Path(sys.argv[1]).read_text().splitlines()
    ray.init(address="local", num_cpus=cores() + 1, include_dashboard=False, log_to_driver=False, logging_level="error")
    found = tune.Tuner(
        tune.with_resources(drive, {"cpu": 0.01}),
        param_space={"cell": tune.grid_search(cells), "folder": folder},
        tune_config=tune.TuneConfig(max_concurrent_trials=cores()),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()
    scores = [result.metrics["exact_match"] for result in found]
    assert len(scores) == len(cells)
    print(scores)


if __name__ == "__main__":
    main()
