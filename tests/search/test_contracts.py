"""Imports of the contracts, and errors for another method's parameters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paretofit.search import registry
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec, register_methods
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet.params import MutualNetParams
from tests.methods.steps.params import StepsParams


def _stderr(program: str) -> str:
    """Standard error of a program in a process without registered methods."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("module", ["paretofit.search.contracts.trial", "paretofit.search.data.loader"])
def test_importing_contracts_loads_no_method(module: str) -> None:
    absent = ("paretofit.core.settings", "paretofit.search.registry", "paretofit.search.methods")
    program = f"import sys, {module}\nassert not [name for name in sys.modules if name.startswith({absent})]"
    assert _stderr(program) == ""


@pytest.mark.parametrize("name", ["SearchSpec", "ResolvedSpec"])
def test_specification_without_registered_methods_raises_with_remedy(name: str) -> None:
    program = f"from paretofit.search.contracts import spec\nspec.{name}.model_validate({{}})"
    assert f"{name} has no methods yet: call paretofit.search.registry.setup() first" in _stderr(program)


def test_parameters_of_another_method_are_rejected(spec: ResolvedSpec) -> None:
    assert spec.params(MutualNetParams) is spec.method
    with pytest.raises(TypeError, match="method is mutualnet, not FdMobileNetParams"):
        spec.params(FdMobileNetParams)


def test_specification_schema_lists_registered_methods() -> None:
    # Methods of another registry are not added.
    register_methods(method.params for method in registry.load(["tests.methods.steps"]).values())
    mapping = SearchSpec.model_json_schema()["properties"]["method"]["discriminator"]["mapping"]
    assert mapping.keys() == registry.methods().keys()


def test_configuration_of_an_unknown_candidate_is_rejected(spec: ResolvedSpec) -> None:
    method = StepsParams(points=2)
    assert method.candidate(spec.dataset, {"index": 1}).key == "net-1"
    with pytest.raises(ValueError, match="no network with the configuration"):
        method.candidate(spec.dataset, {"index": 2})


@pytest.mark.parametrize("package", ["no_such_package", "tests.methods.no_such_package"])
def test_missing_method_package_is_named(package: str) -> None:
    with pytest.raises(ValueError, match=f"PARETOFIT_METHODS names '{package}'"):
        registry.load([package])
