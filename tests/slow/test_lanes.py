"""Lanes on a cluster: a group goes on with the workers that are left, and small cells share a GPU that Ray counts."""

from datetime import timedelta
from itertools import pairwise

import pytest
from ray.cluster_utils import Cluster

from parrots.record import read
from parrots.training.checkpoint import MARKER

from ..chaos.conftest import Here, undisturbed, wait_for

__all__ = ["undisturbed"]  # a fixture
DRIVERS = {"parrots_driver": 100}
pytestmark = pytest.mark.timeout(1800)


def test_a_group_whose_node_is_killed_goes_on_with_the_workers_that_are_left(tmp_path, undisturbed, monkeypatch):
    """The losses are those of one worker to what sums in another order make of them in 400 steps."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = Here(tmp_path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": DRIVERS})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        driver = here.start("--scale", "together", "--elastic", RAY_ADDRESS=cluster.address)
        wait_for(lambda: list((here.results / "checkpoints").glob(f"*/*/{MARKER}")), 600)
        cluster.remove_node(nodes[0], allow_graceful=False)
        code, said = here.finish(driver)
        assert code == 0, said
        assert len(here.records()) == 3
        assert {row["workers"] for row in read((here.results / "records").glob("*.parquet")).to_pylist()} == {1}
        found, losses = here.values(), [key for key in undisturbed if key[0] in here.records() and key[1] == "loss"]
        assert [found[key] for key in losses] == pytest.approx([undisturbed[key] for key in losses], rel=0.05, abs=0.02)
    finally:
        cluster.shutdown()


def test_small_cells_share_a_gpu(tmp_path, undisturbed, monkeypatch):
    """Ray is told of a GPU; there need not be one, and the cells, which find none, come to a CPU's numbers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = Here(tmp_path)
    has = {"num_cpus": 2, "num_gpus": 1, "resources": {**DRIVERS, "accelerator_type:H100": 1}}
    cluster = Cluster(initialize_head=True, head_node_args=has)
    try:
        code, said = here.run("--scale", "alone", RAY_ADDRESS=cluster.address)
        assert code == 0, said
        assert here.values() == undisturbed
        rows = read((here.results / "records").glob("*.parquet")).to_pandas().drop_duplicates("trial_id")
        begun = sorted((at, at + timedelta(seconds=s)) for at, s in zip(rows["started"], rows["wall_s"], strict=True))
        assert any(later < end for (_, end), (later, _) in pairwise(begun))
    finally:
        cluster.shutdown()
