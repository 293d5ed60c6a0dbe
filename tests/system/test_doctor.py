"""`parrots doctor` asks a real Ray's nodes."""

from sweeps import doctor_nodes


def test_every_node_is_asked(tmp_path):
    found = list(doctor_nodes.nodes("local", tmp_path))
    assert [one.state for one in found] == ["ok"]
    assert "clock within" in found[0].found
    assert not list(tmp_path.iterdir())
