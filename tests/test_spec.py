import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parrots.frozen import canonical, canonical_json, one_line
from parrots.spec import Trial, short


def said(trial: Trial) -> dict:
    return json.loads(canonical_json(trial))


def test_equal_trials_have_equal_ids_however_they_are_written(make_trial):
    trial = make_trial()
    written_out = Trial.model_validate(json.loads(trial.model_dump_json()))  # every default spelled out
    reordered = Trial.model_validate(dict(reversed(said(trial).items())))
    assert trial.id == written_out.id == reordered.id == Trial.model_validate_json(canonical_json(trial)).id


def test_an_id_stays_what_it_was_when_the_record_was_made(make_trial):
    """A change here renames every record that exists: bump SEMANTICS or a task's version on purpose, or find the accident."""
    assert make_trial().id == "aefd99c67acef332"
    assert make_trial(ffn={"kind": "moe", "d_ff": 16, "n_experts": 4}).id == "f8e5c11922c7690e"


def test_every_declared_value_is_part_of_the_identity(make_trial):
    base = said(make_trial())
    changes = [
        ("seed", 1),
        ("model.d_model", 32),
        ("model.norm_eps", 1e-6),
        ("model.ffn.activation", "mlp"),
        ("task.n_entries", 61),
        ("task.data_seed", 1),
        ("training.lr", 2e-2),
        ("training.schedule", "cosine"),
        ("training.load_balance", 0.0),
    ]
    ids = {make_trial().id}
    for path, value in changes:
        changed = json.loads(json.dumps(base))
        *parents, last = path.split(".")
        part = changed
        for parent in parents:
            part = part[parent]
        part[last] = value
        ids.add(Trial.model_validate(changed).id)
    assert len(ids) == 1 + len(changes)


def test_defaults_are_left_out_so_that_a_new_option_renames_nothing(make_trial):
    assert "rope_theta" not in said(make_trial())["model"]
    assert "seed" not in said(make_trial(seed=0))


def test_a_task_version_is_part_of_the_identity(make_trial, monkeypatch):
    trial = make_trial()
    before = trial.id
    monkeypatch.setattr(type(trial.task), "version", trial.task.version + 1)
    assert make_trial().id != before


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("model", {"width": 3}, "model: no field 'width'; there are d_model, n_layers"),
        ("model", {"n_heads": 5}, "model: n_heads=5: must divide d_model=16"),
        ("model", {"n_kv_heads": 3}, "model: n_kv_heads=3: must divide n_heads=4"),
        ("model", {"ffn": {"kind": "moe", "d_ff": 8, "n_experts": 2, "top_k": 3}}, "top_k=3: at most n_experts=2"),
        ("model", {"ffn": {"kind": "moe", "d_ff": 8, "n_experts": 2, "top_k": 1}}, "set renormalize=False"),
        ("model", {"ffn": {"kind": "sparse", "d_ff": 8}}, "'dense', 'moe'"),
        ("task", {"kind": "phone"}, "no task 'phone'; there are connectivity, cycle, gaussian"),
        ("task", {"n_entries": 0}, "task: n_entries=0: Input should be greater than or equal to 1"),
        ("task", {"n_test": 100}, "n_test=100: at most n_entries=60"),
        ("training", {"lr": -1}, "training.lr=-1: Input should be greater than 0"),
        ("training", {"lr": float("nan")}, "training.lr=nan"),
        ("training", {"schedule": "step"}, "training.schedule='step': Input should be 'linear' or 'cosine'"),
        ("seed", -1, "seed=-1"),
    ],
)
def test_bad_input_is_one_line_that_names_field_value_and_what_is_allowed(make_trial, field, value, expected):
    declared = said(make_trial())
    declared[field] = {**declared[field], **value} if isinstance(value, dict) else value
    with pytest.raises(ValidationError) as caught:
        Trial.model_validate(declared)
    line = one_line(caught.value)
    assert expected in line
    assert "\n" not in line


def test_nothing_of_a_trial_can_be_changed(make_trial):
    with pytest.raises(ValidationError):
        make_trial().training.lr = 1.0


@given(st.floats(min_value=1e-12, max_value=1e6, allow_nan=False))
def test_canonical_json_gives_each_float_back(x):
    assert json.loads(canonical_json([x])) == [x]


@given(st.integers(1, 9999), st.integers(-9, 9))
def test_a_short_float_reads_back(mantissa, exponent):
    x = float(f"{mantissa}e{exponent}")
    assert float(short(x)) == pytest.approx(x, rel=1e-5)


def test_canonical_keeps_kinds(make_trial):
    assert canonical(make_trial())["model"]["ffn"]["kind"] == "dense"
