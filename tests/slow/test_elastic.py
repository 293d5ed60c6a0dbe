"""Groups of two workers on two nodes, one of which is killed: what it held goes on with one worker on the other."""

import pytest
from ray.cluster_utils import Cluster

from parrots.record import read
from parrots.training.checkpoint import MARKER

from ..chaos.conftest import Here, undisturbed, wait_for

__all__ = ["undisturbed"]  # a fixture


@pytest.mark.timeout(1800)
def test_a_group_goes_on_with_the_workers_that_are_left(tmp_path, undisturbed, monkeypatch):
    """The values are those of one worker to what sums in another order make of them in 400 steps."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = Here(tmp_path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": {"parrots_driver": 100}})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        driver = here.start("--scale", "together", RAY_ADDRESS=cluster.address)
        wait_for(lambda: list((here.results / "checkpoints").glob(f"*/*/{MARKER}")), 600)
        cluster.remove_node(nodes[0], allow_graceful=False)
        code, said = here.finish(driver)
        assert code == 0, said
        workers = {row["workers"] for row in read((here.results / "records").glob("*.parquet")).to_pylist()}
        assert workers == {1}
        found = here.values()
        assert {trial_id for trial_id, *_ in found} == here.records()
        wanted = {key: value for key, value in undisturbed.items() if key[0] in here.records()}
        losses = [key for key in wanted if key[1] == "loss"]
        assert [found[key] for key in losses] == pytest.approx([wanted[key] for key in losses], rel=0.05, abs=0.02)
    finally:
        cluster.shutdown()
