"""What the contracts of a search load, and what they say of another method's parameters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.mutualnet.params import MutualNetParams
from tests.methods.steps.params import StepsParams


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("paretofit.search.contracts.spec", "paretofit.search.methods"),
        ("paretofit.search.data.loader", "paretofit.search.contracts.registry"),
        ("paretofit.search.data.loader", "paretofit.search.methods"),
    ],
)
def test_importing_it_loads_no_method(module: str, absent: str) -> None:
    program = f"import sys, {module}\nassert not [name for name in sys.modules if name.startswith({absent!r})]"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_parameters_are_those_of_their_own_method(spec: ResolvedSpec) -> None:
    assert spec.params(MutualNetParams) is spec.method
    with pytest.raises(TypeError, match="those of mutualnet, not FdMobileNetParams"):
        spec.params(FdMobileNetParams)


def test_a_specification_lists_the_registered_methods() -> None:
    mapping = SearchSpec.model_json_schema()["properties"]["method"]["discriminator"]["mapping"]
    assert {"mutualnet", "fd_mobilenet", "scalenet"} <= mapping.keys()


def test_a_configuration_is_that_of_a_listed_candidate(spec: ResolvedSpec) -> None:
    method = StepsParams(points=2)
    assert method.candidate(spec.dataset, {"index": 1}).key == "net-1"
    with pytest.raises(ValueError, match="no network with the configuration"):
        method.candidate(spec.dataset, {"index": 2})
