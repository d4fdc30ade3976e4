"""The client in a fresh environment with only what `pip install paretofit` installs."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paretofit import Client
from tests.docs.blocks import ROOT, blocks
from tests.import_root import link
from tests.launch.service import Service
from tests.paretofit.stored import Stored

HEAVY = {"torch", "numpy", "fastapi", "sqlalchemy", "celery", "optuna", "pandas"}


def _collect(name: str, extras: frozenset[str], distributions: dict[str, Distribution]) -> None:
    """Add a distribution and its requirements to `found`, by canonical name."""
    if canonicalize_name(name) in distributions and not extras:
        return
    distributions[canonicalize_name(name)] = installed = distribution(name)
    for requirement in map(Requirement, installed.requires or ()):
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        if applies:
            _collect(requirement.name, frozenset(requirement.extras), distributions)


@pytest.fixture(scope="module")
def base() -> dict[str, Distribution]:
    """The distributions of the base install, according to their metadata."""
    distributions: dict[str, Distribution] = {}
    _collect("paretofit", frozenset(), distributions)
    return distributions


@pytest.fixture(scope="module")
def python(base: dict[str, Distribution], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with only the base install, linked from this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for name, each in base.items():
        if name == "paretofit":
            continue
        for top in {file.parts[0] for file in each.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            target = packages / top
            if not target.exists():
                target.symlink_to(Path(str(each.locate_file(top))))
    (packages / "paretofit.pth").write_text(f"{link(folder / 'root')}\n")
    return folder / "bin" / "python"


def run(python: Path, code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [python, "-I", "-c", code], cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=60
    )


def test_base_install_has_no_heavy_dependencies(base: dict[str, Distribution]) -> None:
    assert set(base) & HEAVY == set()
    assert len(base) < 30


def test_client_and_cli_import_on_the_base_install(python: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys, json
import paretofit.api.schemas, paretofit.cli, paretofit.client
for package in (paretofit.api.schemas, paretofit.cli, paretofit.client):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""
    done = run(python, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) & HEAVY == set()


@pytest.mark.integration
def test_quick_start_of_the_readme_runs(python: Path, service: Service, tmp_path: Path) -> None:
    with Client(service.url) as client:
        source = {"kind": "builtin", "name": "fashion_mnist", "subset": 1000}
        dataset = client.datasets.create({"name": "quick", "source": source})
        client.datasets.wait(dataset.id, timeout=60)
    [code] = [block.text for block in blocks(ROOT / "README.md") if "import Client" in block.text]
    done = run(python, code.replace("http://127.0.0.1:8000", service.url), tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, path = done.stdout.split()
    assert 0 < float(accuracy) <= 1
    assert (tmp_path / path).stat().st_size > 10_000


def test_missing_packages_are_named(python: Path, service: Service, stored: Stored, tmp_path: Path) -> None:
    search = f"Client({service.url!r}).searches.get({stored.search_id!r})"
    for code, package in (
        (f"{search}.front().to_pandas()", "paretofit[pandas]"),
        (f"{search}.study('study.db')", "pip install optuna"),
    ):
        done = run(python, f"from paretofit import Client; {code}", tmp_path)
        assert (done.returncode, package in done.stderr) == (1, True), done.stderr
    assert run(python, f"from paretofit import Client; {search}.study('study.log')", tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["study.log"]
