"""The methods of this process by kind; API, planner and trainer use the same list (`PARETOFIT_METHODS`).

A method is a folder: `params.py` (`PARAMS`: its parameter classes, one per kind), `plan.py` (`plan(spec, history) ->
Plan`, pure), `run.py` (`run(trial, reporter) -> outputs`, imported only for training). A method whose points refer to a
`supernet` also has `supernet.py` (`extract(supernet, architecture, size) -> network`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from paretofit.core.settings import get_settings
from paretofit.search.contracts.params import MethodParams
from paretofit.search.contracts.spec import register_methods


@dataclass(frozen=True, slots=True)
class Method:
    """A kind of search: its parameters, and its plan and run, which are imported on first use."""

    kind: str
    package: str
    params: type[MethodParams]

    def load(self, module: str, name: str) -> Any:
        """The attribute `name` of a module in the method's folder."""
        return getattr(import_module(f"{self.package}.{module}"), name)


def load(packages: Iterable[str]) -> dict[str, Method]:
    """The methods of these packages by kind. Raises ValueError if a package does not exist, two packages claim one
    kind, or none is named."""
    found: dict[str, Method] = {}
    for package in packages:
        try:
            module = import_module(f"{package}.params")
        except ModuleNotFoundError as error:
            if error.name is None or not f"{package}.params".startswith(error.name):
                raise
            raise ValueError(f"PARETOFIT_METHODS names {package!r}: there is no module {error.name!r}") from error
        for params in module.PARAMS:
            kind = params.model_fields["kind"].default
            if kind in found:
                raise ValueError(
                    f"method {kind!r} is in both {found[kind].package} and {package}: remove one from PARETOFIT_METHODS"
                )
            found[kind] = Method(kind=kind, package=package, params=params)
    if not found:
        raise ValueError("PARETOFIT_METHODS is empty: add a method package")
    return found


@cache
def methods() -> dict[str, Method]:
    """Methods of this process's settings, imported on first use."""
    return load(get_settings().methods)


def setup() -> None:
    """Register the methods of this process with the specifications. Every process that reads specifications calls it at
    start."""
    register_methods(method.params for method in methods().values())
