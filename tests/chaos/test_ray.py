"""Real kills of a real sweep on Ray: nothing that was finished is lost, and it comes to the numbers of an undisturbed one."""

import json
import os
import re
import signal

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
from ray.util import placement_group

from ..conftest import processes
from .conftest import Here, kill, session, wait_for


def test_a_killed_actor_costs_nothing_but_the_steps_since_its_checkpoint(here, undisturbed):
    driver = here.start("--scale", "alone")
    wait_for(here.checkpoints)
    (victim, *_) = wait_for(lambda: processes("ray::ImplicitFunc", session(here.results)))
    kill(victim)
    code, said = here.finish(driver)
    assert code == 0, said
    assert here.values() == undisturbed
    (failure,) = here.failures()
    assert (failure["status"], failure["failure"], failure["value"]) == ("failed", "infrastructure", None)
    assert not here.checkpoints()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_ends_early_keeps_what_there_is_and_leaves_nothing_running(here, undisturbed, how):
    driver = here.start("--scale", "alone")
    wait_for(lambda: here.records() and here.checkpoints())
    ours = here.folder, session(here.results)
    begun = here.begun()
    os.kill(driver.pid, how)
    code, said = here.finish(driver)
    if how == signal.SIGTERM:
        assert code == 130
        assert said.splitlines()[-1].startswith("stopped; finished records and checkpoints stay")
        assert "Traceback" not in said
        assert begun <= here.begun() | here.records()
    # Ray's own agents outlive a killed driver by a minute; what computes must not
    wait_for(lambda: not processes("ray::" if how == signal.SIGTERM else "ray::ImplicitFunc", *ours), 60)
    before = {i: (here.results / "records" / f"{i}.parquet").stat().st_mtime_ns for i in here.records()}
    assert 1 <= len(before) < 6
    assert not here.failures()
    code, said = here.run("--scale", "alone")
    assert code == 0, said
    assert here.values() == undisturbed
    assert {i: (here.results / "records" / f"{i}.parquet").stat().st_mtime_ns for i in before} == before


@pytest.mark.slow
def test_more_groups_than_the_cluster_holds_end_all_the_same_and_a_killed_worker_costs_its_steps(here):
    """Three cells of two workers on two cores: their drivers never wait for one another's workers."""
    driver = here.start("--scale", "together", "--slots", "2")
    wait_for(here.checkpoints)
    (victim, *_) = wait_for(lambda: processes("ray::RayTrainWorker", session(here.results)))
    kill(victim)
    code, said = here.finish(driver)
    assert code == 0, said
    assert len(here.records()) == 3
    (failure,) = here.failures()
    assert failure["failure"] == "infrastructure"
    disturbed = here.values()
    (here.folder / "again").mkdir()
    again = Here(here.folder / "again")
    code, said = again.run("--scale", "together", "--slots", "2")
    assert code == 0, said
    assert disturbed == again.values()


def forget(address: str) -> None:
    """Leave on a cluster what a driver that was killed has left there: a placement group, and Train's actor that cleans up."""
    ray.init(address, log_to_driver=False, logging_level="error")
    group = placement_group([{"parrots_driver": 1}], name="forgotten", lifetime="detached")
    assert group.wait(120)
    on_the_head = {"num_cpus": 0, "resources": {"parrots_driver": 1}}
    cleaner = ray.remote(**on_the_head)(PlacementGroupCleaner).options(name="cleaner", lifetime="detached")
    ray.get(cleaner.remote("0" * 32, 1.0, 1.0, None).__ray_ready__.remote())
    ray.shutdown()


FULL = """
import sys

if any(word.endswith("default_worker.py") for word in sys.orig_argv):
    import torch
    from parrots.training import trainer

    real = trainer.micro_step

    def micro_step(model, batch, *rest):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1 and len(batch.inputs_BS) > 8:
            raise torch.OutOfMemoryError("no room for more than eight")
        return real(model, batch, *rest)

    trainer.micro_step = micro_step
"""


@pytest.mark.slow
def test_out_of_memory_on_one_worker_of_a_group_halves_the_micro_batch_of_all(here, undisturbed):
    """The other stands in a collective meanwhile: Train ends it, and a new group takes half as many examples at once."""
    (here.folder / "site").mkdir()
    (here.folder / "site" / "sitecustomize.py").write_text(FULL)
    code, said = here.run("--scale", "together", "--slots", "2", "--max-trials", "1", PYTHONPATH=str(here.folder / "site"))
    assert code == 0, said
    (failure,) = here.failures()
    assert (failure["status"], failure["failure"], failure["workers"]) == ("oom", "oom", 2)
    assert [json.loads(path.read_bytes())["micro_batch"] for path in (here.results / "fits").iterdir()] == [8]
    early = {key: value for key, value in here.values().items() if key[1] == "loss" and key[2] <= 100}  # rounding grows later
    assert len(early) == 25
    assert early == pytest.approx({key: undisturbed[key] for key in early}, rel=1e-3)


def test_a_killed_node_costs_the_steps_of_the_cell_that_it_held(here, undisturbed, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "resources": {"parrots_driver": 100}})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        forget(cluster.address)
        driver = here.start("--scale", "alone", "--slots", "2", RAY_ADDRESS=cluster.address)
        wait_for(here.checkpoints)
        cluster.remove_node(nodes[0], allow_graceful=False)
        code, said = here.finish(driver)
        assert code == 0, said
        told, by_others = " ".join(said.split()), "left over on this cluster by others: "
        assert re.search(by_others + r"placement group \w+ \(forgotten\), CREATED", told), said
        assert re.search(by_others + r"actor \w+ \(PlacementGroupCleaner\)", told), said
        assert "by this run" not in said
        assert here.values() == undisturbed
        assert {one["failure"] for one in here.failures()} == {"infrastructure"}
    finally:
        cluster.shutdown()
