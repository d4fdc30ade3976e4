"""The content of installations and the imports of processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paretofit.core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SERVER_ONLY = (
    "alembic",
    "celery",
    "fastapi",
    "kombu",
    "numpy",
    "obstore",
    "optuna",
    "PIL",
    "psycopg",
    "redis",
    "safetensors",
    "sqlalchemy",
    "prometheus_client",
    "starlette",
    "structlog",
    "torch",
    "uvicorn",
    "matplotlib",
)
NUMERIC = ("matplotlib", "numpy", "optuna", "PIL", "safetensors", "torch")

WITHOUT = """
import importlib.machinery, sys
class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Bare
{code}
"""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _run_without(absent: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter without these packages."""
    script = WITHOUT.format(absent=set(absent), code=code)
    environment = os.environ | {"DATABASE_URL": "postgresql://localhost/none", "REDIS_URL": "redis://localhost/0"}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_api_does_not_import_torch() -> None:
    code = "import paretofit.api.app, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_api_and_relay_import_no_numeric_package() -> None:
    done = _run_without(
        NUMERIC,
        "import paretofit.api.app, paretofit.api.__main__, paretofit.workers.relay, paretofit.db.migrate, "
        "paretofit.workers.health",
    )
    assert done.returncode == 0, done.stderr


def test_celery_processes_run_without_torch() -> None:
    modules = ("workers.__main__", "workers.tasks", "workers.relay", "search.methods.mutualnet.plan")
    code = "\n".join(f"import paretofit.{module}" for module in modules)
    done = _run_without(("torch",), code)
    assert done.returncode == 0, done.stderr


def test_command_line_runs_on_the_base_install() -> None:
    code = """
import sys
from typer.testing import CliRunner
from paretofit.cli.main import app
names = [command.name or command.callback.__name__ for command in app.registered_commands]
for arguments in [[], *([name] for name in names), ["datasets", "add"]]:
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, (arguments, result.output)
for arguments in (["up"], ["demo"]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, (arguments, result.output)
    assert "pip install" in result.stderr, result.stderr
import paretofit
paretofit.Client
"""
    done = _run_without(SERVER_ONLY, code)
    assert done.returncode == 0, done.stderr


def test_load_without_torch_says_what_to_install() -> None:
    done = _run_without(SERVER_ONLY, "import paretofit; paretofit.load('x.safetensors')")
    assert done.returncode == 1
    assert "torch" in done.stderr


def test_base_and_server_install_have_no_torch(project: dict[str, Any]) -> None:
    def names(requirements: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}

    base, extras = names(project["dependencies"]), project["optional-dependencies"]
    assert base & {canonicalize_name(name) for name in SERVER_ONLY} == set()
    assert names(extras["server"]) & {"torch", "numpy", "optuna", "pillow", "matplotlib", "safetensors"} == set()
    assert {"torch", "optuna"} <= names(extras["worker"])


def test_constraints_pin_every_requirement_and_nothing_else(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pins: dict[str, str] = {}
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
        name, _, version = line.partition("==")
        pins[canonicalize_name(name)] = version
    assert pins["torch"] == "2.13.0"
    required = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, required):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


def test_packages_have_empty_init_files() -> None:
    for path in ROOT.glob("*/**/__init__.py"):
        if not {".venv", "build"} & set(path.parts) and path.parent != ROOT / "paretofit":
            assert path.read_text() == "", path


def test_configuration_page_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = {
        name: (default, meaning)
        for name, default, meaning in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    }
    standard_names = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}
    expected = {}
    for name, field in Settings.model_fields.items():
        match field.default:
            case tuple():
                default = ",".join(field.default)
            case None:
                default = ""
            case _:
                default = "" if field.default_factory else str(field.default)
        variable = standard_names.get(name, f"PARETOFIT_{name.upper()}")
        expected[variable] = (f"`{default}`" if default else "", (field.description or "").replace("|", "\\|"))
    assert rows == expected


def test_make_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = re.findall(r"^  make (\w+)", done.stdout, re.MULTILINE)
    assert targets == [
        "help",
        "env",
        "demo",
        "test",
        "integration",
        "slow",
        "check",
        "docs",
        "up",
        "bench",
        "chaos",
        "fuzz",
        "sbom",
    ]


def test_make_bench_runs_every_benchmark_and_nothing_else() -> None:
    benchmarks = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main(" in path.read_text()]
    assert len(benchmarks) >= 2
    done = subprocess.run(["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)
    [names] = re.findall(r"^for name in (.*); do", done.stdout, re.MULTILINE)
    assert sorted(names.split()) == sorted(benchmarks)


def test_hooks_use_only_the_environment() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in configuration["repos"]] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in configuration["repos"][0]["hooks"])
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
