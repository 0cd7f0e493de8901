"""pyproject.toml, requirements, the lock, the Makefile and the citation state the same."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ferlib.runtime.errors import run_script

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def required(name: str) -> set[str]:
    """The packages with their versions of a requirements file, without those of files that it includes."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return {str(Requirement(line)) for line in lines if line and not line.startswith("-r")}


def stated(*lists: list[str]) -> set[str]:
    """The same of lists in pyproject.toml."""
    return {str(Requirement(line)) for each in lists for line in each}


def test_requirements_are_the_dependencies_with_the_extras_of_users() -> None:
    users = [packages for name, packages in EXTRAS.items() if name not in ("dev", "heic", "imagenet")]
    assert required("requirements.txt") == stated(PROJECT["project"]["dependencies"], *users)
    assert required("requirements-dev.txt") == stated(EXTRAS["dev"])
    assert set(EXTRAS["heic"]) <= set(EXTRAS["dev"]), "tests read HEIC"
    assert set(EXTRAS["imagenet"]) & set(EXTRAS["dev"]), "tests read packaged weights"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_the_lock_has_a_version_of_every_package_that_fits(name: str) -> None:
    locked = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    for wanted in map(Requirement, required(name)):
        pins = [pin for pin in locked if pin.name.lower() == wanted.name.lower()]
        assert pins, f"{wanted.name} is not locked; run make lock"
        assert all(wanted.specifier.contains(next(iter(pin.specifier)).version) for pin in pins), wanted


def test_every_module_at_the_root_is_packaged() -> None:
    assert PROJECT["tool"]["setuptools"]["py-modules"] == sorted(path.stem for path in ROOT.glob("*.py"))


def test_templates_and_style_sheets_are_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["ferlib"]
    packaged = {path for pattern in patterns for path in (ROOT / "ferlib").glob(pattern) if path.is_file()}
    others = {path for path in (ROOT / "ferlib").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert packaged == others


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## {version} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_makefile_asks_for_the_same_python() -> None:
    low, high = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert f"(3, {low}) <= sys.version_info < (3, {high})" in (ROOT / "Makefile").read_text()


def test_a_missing_package_is_told_in_one_line() -> None:
    def main() -> None:
        importlib.import_module("no_such_package.part")

    with pytest.raises(SystemExit, match=r"no_such_package is not installed; run: pip install -r requirements\.txt"):
        run_script(main)


def test_a_missing_module_of_this_project_is_not_mistaken_for_a_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ferlib\.no_such_module"):
        run_script(lambda: importlib.import_module("ferlib.no_such_module"))
