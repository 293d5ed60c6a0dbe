import numpy as np
import pytest

from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.tasks.task import Scores
from parrots.tasks.two_clusters import TwoClusters

from ..conftest import make

TASK = TwoClusters(n_tokens=40)


def separation(expert_N: np.ndarray) -> float:
    examples = TASK.make("test")
    expert_NSL = np.stack([expert_N * 0, expert_N * 0, expert_N], axis=1)[:, :, None]
    scores = Scores(np.zeros((80, 4)), np.ones((80, 4), bool), expert_NSL=expert_NSL)
    return {m.metric: m.value for m in TASK.measure(examples, scores, 1)}["separation"]


def test_experts_that_have_a_cluster_each_separate_them_and_others_do_not():
    token_N = np.arange(80)
    assert separation(token_N // 40) == separation(1 - token_N // 40) == separation(token_N // 20) == 1
    assert separation(token_N * 0) == separation(token_N % 2) == 0.5


def test_a_token_has_another_value_in_either_cluster():
    words_NS = np.array(TASK.vocabulary)[TASK.make("test").tokens_NS]
    assert sorted(words_NS[:, 2]) == sorted([*(f"x{i}" for i in range(40))] * 2)
    a, b = (words_NS[words_NS[:, 1] == cluster] for cluster in "ab")
    assert np.array_equal(a[:, 2], b[:, 2])
    assert (a[:, 3] != b[:, 3]).mean() > 0.8


@pytest.mark.parametrize("router", ["top_k", "hash", "random", "expert_choice"])
def test_every_router_says_where_it_sent_tokens(tmp_path, router):
    ffn = {"kind": "moe", "d_ff": 16, "n_experts": 2, "top_k": 1, "renormalize": False, "router": router}
    record = run_trial(make(ffn, task={"kind": "two_clusters", "n_tokens": 10}), Placement(tmp_path, None, "cpu"))
    assert 0.5 <= {m.metric: m.value for m in record.measurements}["separation"] <= 1


def test_a_dense_model_has_nothing_to_separate_with(tmp_path):
    record = run_trial(make(task={"kind": "two_clusters", "n_tokens": 10}), Placement(tmp_path, None, "cpu"))
    assert {m.metric: m.value for m in record.measurements}["separation"] == 0.5
