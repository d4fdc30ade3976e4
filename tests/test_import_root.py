"""The installed wheel works next to packages with the former names of our subpackages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.import_root import PARTS, ROOT
from tests.launch.service import FAST, Service

pytestmark = pytest.mark.integration

FORMER = ("cores", "legible", "logs", "outbound", "settings", "signing", "tracing")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
RUN = """
dataset: {source: {kind: builtin, name: fashion_mnist, subset: 400}}
method: {kind: fd_mobilenet, families: [fd_mobilenet], widths: [0.25], resolutions: [16], trials: 1, epochs: 1}
"""
CLIENT = """
import sys, paretofit
with paretofit.Client(sys.argv[1]) as client:
    dataset = client.datasets.create(
        {"name": "beside", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 400}}
    )
    client.datasets.wait(dataset.id, timeout=60)
    method = {"kind": "fd_mobilenet", "families": ["fd_mobilenet"], "widths": [0.25], "resolutions": [16]}
    method |= {"trials": 1, "epochs": 1}
    search = client.searches.create({"name": "beside", "dataset_id": dataset.id, "method": method})
    search.wait(timeout=120)
    path = search.front().select().download("best.safetensors")
network = paretofit.load(path)
print(network.record["key"], sorted(name for name in sys.modules if name in ("api", "models", "search", "settings")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist of this tree."""
    folder = tmp_path_factory.mktemp("built")
    tree = folder / "tree"
    tree.mkdir()
    for name in (*PARTS, "paretofit"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    _build("build_sdist", tree, folder)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    _build("build_wheel", unpacked, folder)
    [built] = folder.glob("*.whl")
    return built


def _build(kind: str, tree: Path, into: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BUILD, kind, into], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel. Its requirements are the packages of this environment,
    without the editable install."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is not a site directory: Python does not read the .pth files in it.
    (packages / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a user, whose packages exit when imported."""
    for name in PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'raise SystemExit("the user has a {name} too")\n')
    for name in FORMER:
        (tmp_path / f"{name}.py").write_text(f'raise SystemExit("the user has a {name} too")\n')
    return tmp_path


def _run(folder: Path, *command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _service(scripts: Path, home: Path) -> Iterator[Service]:
    environment = os.environ | FAST | {"PARETOFIT_HOME": str(home), "PARETOFIT_DEVICES": "cpu"}
    with (home.with_suffix(".txt")).open("wb") as log:
        process = subprocess.Popen(
            [scripts / "paretofit", "up"], cwd=home.parent, env=environment, stdout=log, stderr=log
        )
    with Service.of(process, home) as service:
        yield service


def test_wheel_has_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"paretofit"}
    sources = {f"paretofit/{path.relative_to(ROOT)}" for part in PARTS for path in (ROOT / part).rglob("*.py")}
    sources |= {str(path.relative_to(ROOT)) for path in (ROOT / "paretofit").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    data = {path for path in (ROOT / "api" / "pages").rglob("*") if path.suffix in {".js", ".css", ".html", ".svg"}}
    assert {f"paretofit/{path.relative_to(ROOT)}" for path in data} | {"paretofit/py.typed"} <= set(names)


def test_client_cli_and_service_work_next_to_packages_with_the_same_names(scripts: Path, repository: Path) -> None:
    assert "paretofit" in _run(repository, scripts / "paretofit", "--help")
    assert "up" in _run(repository, scripts / "python", "-m", "paretofit", "--help")
    with _service(scripts, repository / "home") as service:
        key, ours = _run(repository, scripts / "python", "-c", CLIENT, service.url).split(maxsplit=1)
        assert key.startswith("fd_mobilenet")
        assert ours.strip() == "[]"
        assert "beside" in _run(repository, scripts / "paretofit", "--url", service.url, "list")


def test_search_without_a_service_works_next_to_packages_with_the_same_names(scripts: Path, repository: Path) -> None:
    (repository / "spec.yaml").write_text(RUN)
    _run(repository, scripts / "python", "-m", "paretofit.search", "run", "spec.yaml", "--out", "out")
    [point] = (repository / "out" / "points").glob("*.safetensors")
    assert "exactly as reported" in _run(
        repository,
        scripts / "python",
        "-m",
        "paretofit.search",
        "evaluate",
        point,
        "--dataset",
        repository / "out" / "dataset",
    )
