"""The arrows between the rooms, as DESIGN draws them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("parrots", "sweeps", "analysis")
# analysis reads what a trial declares and leaves, and writes files whole; none of these knows of torch
SHARED_WITH_ANALYSIS = {"parrots.spec", "parrots.record", "parrots.frozen", "parrots.atomic", "parrots.expressions"}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, lazy ones included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def breaches(room: str, *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in sorted(imports(path))
        if name.split(".")[0] in forbidden
    ]


def test_parrots_knows_nothing_of_orchestration_or_analysis():
    assert not breaches("parrots", "ray", "mlflow", "sweeps", "analysis", "pandas")


def test_analysis_knows_nothing_of_torch_ray_or_sweeps():
    assert not breaches("analysis", "torch", "ray", "mlflow", "sweeps")


def test_analysis_takes_from_parrots_only_the_spec_the_record_and_the_language_of_filters():
    taken = {name for path in files("analysis") for name in imports(path) if name.startswith("parrots")}
    assert taken <= SHARED_WITH_ANALYSIS


def test_every_room_is_looked_at():
    assert all(len(files(room)) > 3 for room in ROOMS)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import parrots.spec, parrots.record, parrots.tasks.phonebook", ("torch", "ray", "mlflow", "pandas")),
        ("import analysis.report", ("torch", "ray", "mlflow")),
        ("import sweeps.cli", ("torch", "ray", "mlflow", "pandas", "scipy")),
        ("from sweeps.cli import main; assert main(['plan', 'quickstart']) == 0", ("torch", "ray", "mlflow", "pandas")),
        ("import parrots.run", ("ray", "mlflow", "pandas")),
    ],
)
def test_importing_this_leaves_that_alone(statement, absent):
    check = f"import sys; {statement}; print(sorted(set({absent!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "[]"
