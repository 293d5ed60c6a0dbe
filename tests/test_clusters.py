"""The files that `ray up` is given: Ray takes them, and they leave nothing open."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps import token
from sweeps.run import DRIVER
from sweeps.verbs.cluster import without

HERE = Path(__file__).parent.parent
FILES = [HERE / "cluster.yaml", *sorted((HERE / "clusters").glob("*.yaml"))]
CLOUDS = [path for path in FILES if "onprem" not in path.name]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def text(request):
    return request.param.read_text()


@pytest.fixture(params=CLOUDS, ids=lambda path: path.name)
def cloud(request):
    return yaml.safe_load(request.param.read_text())


def test_rays_own_schema_takes_it(text):
    validate_config(prepare_config(yaml.safe_load(text)))


def test_every_ray_that_starts_asks_for_the_token_and_shows_its_dashboard_to_no_other_host(text):
    found = yaml.safe_load(text)
    starts = [line for key in ("head", "worker") for line in found[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in text
    assert found["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any(line.startswith("chmod 600 ~/.ray/auth_token") for line in found["setup_commands"])


def test_packages_are_those_that_pass_the_tests(text):
    assert re.search(r"pip install --quiet -c constraints.txt -e", text)
    images = re.findall(r"rayproject/(\S+?):([\d.]+)-", text)
    assert all(image == ("ray", version("ray")) for image in images)


def test_the_head_holds_the_drivers_no_trials_and_is_never_a_spot_instance(cloud):
    head = cloud["available_node_types"][cloud["head_node_type"]]
    assert head["resources"] == {"CPU": 0, DRIVER: 1000}
    assert "spot" not in json.dumps(head).lower()


def test_workers_are_spot_instances_first_and_the_others_stand_behind_them(cloud):
    spot, behind = cloud["available_node_types"]["spot"], cloud["available_node_types"]["on-demand"]
    assert spot["priority"] > behind["priority"]
    assert re.search("spot", json.dumps(spot["node_config"]), re.IGNORECASE)
    assert not re.search("spot", json.dumps(behind), re.IGNORECASE)
    assert spot["resources"] == behind["resources"]


def test_every_machine_on_aws_is_in_a_group_that_is_named():
    """Where none is named, Ray makes one that lets the world in at port 22."""
    found = yaml.safe_load((HERE / "cluster.yaml").read_text())
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in found["available_node_types"].values())
    assert len(found["provider"]["availability_zone"].split(",")) > 1


def test_the_token_is_ours_alone_also_where_ray_wrote_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray" / "token"))
    where = token.ensure()
    secret = where.read_text()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert where.stat().st_mode & 0o777 == 0o600
    where.chmod(0o644)
    assert token.ensure().stat().st_mode & 0o777 == 0o600
    assert where.read_text() == secret


@pytest.mark.parametrize("given", [["--cluster", "c.yaml"], ["--cluster=c.yaml"]])
def test_the_head_is_told_the_command_line_but_for_the_cluster(given):
    assert without(["run", "s.py", *given, "--where", "lr < 1"], "--cluster") == ["run", "s.py", "--where", "lr < 1"]
