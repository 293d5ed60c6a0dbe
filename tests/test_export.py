"""A trained model leaves for other people's tools: `parrots export`, then lm_eval."""

import json

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file

from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.tasks.store import load
from parrots.training import weights
from sweeps.cli import main

from .conftest import MOE, PATH, make

LM_EVAL_TASK = """
task: book
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{name}}}}"
doc_to_target: "{{{{number}}}}"
generation_kwargs: {{until: ["<eos>"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module", params=["mixtral", "parrots"])
def trained(request, tmp_path_factory):
    """A results folder with a book that is known in part."""
    results = tmp_path_factory.mktemp("results")
    ffn = {**MOE, "activation": "mlp"} if request.param == "parrots" else MOE
    book = {"kind": "phonebook", "n_entries": 120, "n_test": 100}
    trial = make(ffn, book, steps=250, batch_size=40, lr=1e-2, schedule="cosine")
    record = run_trial(trial, Placement(results / "data", results / "weights"))
    record.write(results)
    return request.param, results, record


def test_an_export_scores_in_lm_eval_as_it_did_here(trained, tmp_path, monkeypatch, capsys):
    kind, results, record = trained
    ours = next(m.value for m in record.measurements if m.metric == "exact_match")
    assert 0.1 < ours < 1
    assert main(["export", record.trial.id[:6], str(tmp_path / "hf"), "--results", str(results)]) == 0
    assert f"as {kind} in" in capsys.readouterr().out
    words, test = record.trial.task.vocabulary, load(record.trial.task, "test", results / "data")
    with (tmp_path / "book.jsonl").open("w") as lines:
        for row in test.tokens_NS:
            text = [words[token] for token in row]
            lines.write(json.dumps({"name": " ".join(text[:7]), "number": " ".join(text[7:-1])}) + "\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "book.yaml").write_text(LM_EVAL_TASK.format(data=tmp_path / "book.jsonl"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "hf"), "trust_remote_code": True, "add_bos_token": False},
        tasks=["book"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=100,
        bootstrap_iters=0,
    )
    assert theirs["results"]["book"]["exact_match,none"] == pytest.approx(ours)


@pytest.mark.parametrize("tied", [False, True])
def test_kept_weights_are_the_trained_ones(tmp_path, tied):
    trial = make(MOE, PATH)
    trial = trial.model_copy(update={"model": trial.model.model_copy(update={"tie_embeddings": tied})})
    record = run_trial(trial, Placement(tmp_path, tmp_path / "weights"))
    model = weights.load(trial, weights.path_of(trial.id, tmp_path / "weights"), record.weights_sha256)
    test = load(trial.task, "test", tmp_path)
    with torch.no_grad():
        logits = model(torch.from_numpy(test.tokens_NS.astype(int))[:, :-1]).logits
    right = logits[:, -1].argmax(-1).numpy() == test.tokens_NS[:, -1]
    assert right.mean() == next(m.value for m in record.measurements if m.metric == "exact_match")
    assert ("head.weight" in load_file(weights.path_of(trial.id, tmp_path / "weights"))) != tied


def test_export_says_in_a_line_what_is_wrong(trained, tmp_path, capsys):
    _, results, record = trained

    def refused(*words) -> str:
        assert main(["export", *map(str, words), "--results", str(results)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "0 trials in" in refused("zzz", tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert "is not empty" in refused(record.trial.id, tmp_path / "full")
    other = make(seed=5)
    run_trial(other, Placement(results / "data")).write(results)
    assert f"no weights of {other.id}" in refused(other.id, tmp_path / "new")
    assert not (tmp_path / "new").exists()
