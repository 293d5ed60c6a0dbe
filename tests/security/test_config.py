"""Files that others start servers from."""

from pathlib import Path

import yaml

HERE = Path(__file__).parents[2]


def test_postgresql_is_published_on_the_loopback_address_with_a_password_that_has_no_default():
    (service,) = yaml.safe_load((HERE / "compose.yaml").read_text())["services"].values()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_every_line_of_the_threat_model_names_tests_that_are_there():
    rows = [line for line in (HERE / "docs" / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 12
    for row in rows:
        named = row.rpartition("|")[0].rpartition("|")[2].split("`")[1::2]
        assert named, row
        for name in named:
            assert (HERE / name if "/" in name else HERE / "tests" / "security" / name).exists(), name
