"""A sweep beside plain Tune: the benchmark runs. Slow: Ray is started twice."""

from ..test_benchmarks import bench


def test_a_sweep_is_compared_with_plain_tune_in_a_table():
    header, _, *rows = [line for line in bench("sweep", "--smoke").splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert {row.count("|") for row in rows} == {header.count("|")}
