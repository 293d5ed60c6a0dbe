"""Which lane a cell takes, how many share a GPU, and how many workers a group may go on with."""

import json

import pytest
from pydantic import ValidationError

from parrots.spec import Cell
from sweeps import devices, lanes, room
from sweeps.lanes import capacity, elastic, fewest, lane_of, part, per_gpu, smallest, split

from ..conftest import MOE, make

H100 = devices.known()["h100"]


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(lanes, "UP", tmp_path / "ray_bootstrap_config.yaml")
    return lanes.UP


@pytest.fixture
def laptop(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_cell_of_one_worker_is_packed_on_a_laptop_unless_its_scale_or_its_sweep_says_otherwise(laptop):
    one = Cell(trial=make())
    assert lane_of(one, "laptop") == "packed"
    assert lane_of(one, "paper") == "group"
    assert lane_of(one.model_copy(update={"lane": "packed"}), "paper") == "packed"
    assert lane_of(one.model_copy(update={"lane": "group"}), "laptop") == "group"
    assert lane_of(Cell(trial=make(), workers=2), "laptop") == "group"


def test_on_a_cluster_every_cell_is_a_group_unless_its_sweep_says_packed(cluster):
    assert lane_of(Cell(trial=make()), "laptop") == "group"
    assert lane_of(Cell(trial=make(), lane="packed"), "laptop") == "packed"
    with pytest.raises(ValidationError, match="lane='packed': cells of one worker are packed, and workers=2"):
        Cell(trial=make(), workers=2, lane="packed")


def test_no_lane_mixes_what_is_run_differently_and_none_loses_a_cell(laptop):
    cells = [
        Cell(trial=make(seed=0)),
        Cell(trial=make(seed=1), workers=2),
        Cell(trial=make(seed=2), lane="group"),
        Cell(trial=make(seed=3)),
        Cell(trial=make(seed=4), workers=4),
    ]
    found = split(cells, "laptop")
    assert [(lane, [cell.trial.seed for cell in some]) for lane, some in found] == [
        ("packed", [0, 3]),
        ("group", [2]),
        ("group", [1]),
        ("group", [4]),
    ]


def test_as_many_cells_share_a_gpu_as_fit_into_its_memory_and_have_a_core():
    small, cores = Cell(trial=make()), 16
    assert per_gpu(small, H100, cores) == lanes.MOST
    assert per_gpu(small, H100, 3) == 3
    assert per_gpu(small, H100, cores, stack=10**6) == 1
    assert per_gpu(small.model_copy(update={"workers": 2}), H100, cores) == 1
    wide = {"kind": "dense", "d_ff": 16384}
    large = Cell(trial=make(wide, batch_size=1_500))
    number = per_gpu(large, H100, cores)
    assert 1 < number < lanes.MOST
    each = room.needed(large, H100).peak + lanes.PROCESS_BYTES
    assert number * each <= room.HEADROOM * H100.memory < (number + 1) * each
    assert per_gpu(Cell(trial=make(wide, batch_size=200_000)), H100, cores) == 1


def test_a_gpu_of_unknown_memory_is_not_shared():
    assert per_gpu(Cell(trial=make()), devices.Device("gpu", "?", "cuda", float("inf"), {}), 16) == 1


@pytest.mark.parametrize("number", range(1, 9))
def test_the_parts_of_a_gpu_are_not_more_than_it(number):
    assert 1 - 1e-3 <= number * part(number) <= 1


def test_of_several_kinds_of_gpu_the_smallest_counts_and_an_unknown_one_leaves_none():
    assert smallest(["H200", "H100"]) == H100
    assert smallest(["A100"]).memory == devices.known()["a100-40"].memory
    assert smallest(["H100", "TPU-V4"]) is None
    assert smallest([]) is None


def test_on_a_cluster_a_group_goes_on_with_fewer_workers_where_any_number_of_them_shares_the_batch(cluster):
    assert elastic(Cell(trial=make(batch_size=20), workers=2)) == (1, 2)
    assert elastic(Cell(trial=make(batch_size=24), workers=4)) == (1, 4)
    assert elastic(Cell(trial=make(batch_size=20), workers=5)) == (4, 5)
    assert elastic(Cell(trial=make(batch_size=32), workers=4)) == 4  # three could not share it


def test_on_a_laptop_a_group_has_the_workers_that_were_asked(laptop):
    assert elastic(Cell(trial=make(MOE), workers=2)) == 2


def test_a_cluster_counts_the_machines_that_it_may_grow_by(cluster):
    now = {"CPU": 8.0}
    assert capacity(now) == {"CPU": 8, "GPU": 0}
    head = {"resources": {"CPU": 0}, "max_workers": 0}
    spot = {"resources": {"CPU": 48, "GPU": 4}, "min_workers": 2, "max_workers": 16}
    other = {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 4}
    assert fewest() == 1
    said = {"max_workers": 17, "available_node_types": {"head": head, "spot": spot, "on-demand": other}}
    cluster.write_text(json.dumps(said))
    assert capacity(now) == {"CPU": 17 * 48, "GPU": 17 * 4}
    assert capacity({"CPU": 8.0, "GPU": 100.0})["GPU"] == 100
    assert fewest() == 3
