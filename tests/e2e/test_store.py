"""Three hosts that share nothing but an object store: one is lost with its disk, then the head's disk, and nothing else."""

import shutil
import time

import pytest

from parrots.record import read
from parrots.training.checkpoint import MARKER
from sweeps.spec import find

from ..object_store import CREDENTIALS, SECRET, Server
from .hosts import Network, missing
from .test_ray_up import FILE, three_hosts

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(1500), pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three hosts with a disk each, and an S3 server that they reach."""
    folder, servers = tmp_path_factory.mktemp("cluster"), []

    def environment(network: Network) -> dict[str, str]:
        servers.append(Server(folder, network.address()))
        return {**CREDENTIALS, "PARROTS_STORE": servers[0].uri("sweeps")}

    try:
        with three_hosts(folder, environment) as found:
            found.s3 = servers[0]
            found.environment |= CREDENTIALS
            yield found
    finally:
        for server in servers:
            server.end()


def wait_for(cluster, condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{cluster.s3.keys('sweeps')}\n" + cluster(f"parrots logs --cluster {FILE}")
        time.sleep(0.5)


def test_a_sweep_outlives_a_host_and_the_disk_of_the_head(cluster):
    cells, s3 = find(str(cluster.project / "my_sweep.py")).cells, cluster.s3

    def there(kind: str, end: str = "") -> list[str]:
        return [key for key in s3.keys("sweeps") if key.startswith(kind) and key.endswith(end)]

    for line in ("export RAY_UP_enable_autoscaler_v2=0", "parrots token"):
        cluster(line)
    cluster(f"ray up --yes {FILE}", "--no-config-cache")
    try:
        while "are there" in (said := cluster(f"parrots doctor --cluster {FILE}")):
            assert "can be written, read and deleted from" in said
        cluster(f"parrots run my_sweep.py --slots 4 --cluster {FILE}", "--checkpoint-every", "2")
        wait_for(cluster, lambda: there("records") and there("checkpoints", MARKER), 600)
        head, _, lost = cluster.hosts
        lost.kill()
        shutil.rmtree(lost.disk)
        time.sleep(6)
        lost.start()
        wait_for(cluster, lambda: len(there("records")) == len(cells), 900)
        wait_for(cluster, lambda: not there("checkpoints"), 60)
        time.sleep(5)  # the report
        assert not list((head.disk / "results" / "data").iterdir())  # it trains nothing
        shutil.rmtree(head.disk / "results")
        said = cluster(f"parrots status my_sweep --cluster {FILE}").splitlines()
        assert ["phonebook", str(len(cells)), "0", "0"] in [line.split() for line in said]
        cluster(f"parrots pull {s3.uri('sweeps')}")
        rows = read(sorted((cluster.project / "results" / "records").glob("*.parquet"))).to_pandas()
        assert set(rows["trial_id"]) == {cell.trial.id for cell in cells}
        assert (rows["status"] == "done").all()
        assert rows.groupby("trial_id")["started"].nunique().eq(1).all()
        assert not any(SECRET.encode() in s3.read(f"sweeps/{key}") for key in s3.keys("sweeps"))
    finally:
        cluster(f"ray down --yes {FILE}")
