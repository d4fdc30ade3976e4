"""The methods of this process, by kind: API, planner and trainer have the same list (`PARETOFIT_METHODS`).

A method is a folder: `params.py` (`PARAMS`: its parameter classes, one per kind), `plan.py` (`plan(spec, history) ->
Plan`, pure), `run.py` (`run(trial, reporter) -> outputs`, loaded only where it trains). One whose points name a
`supernet` has `supernet.py` too (`extract(supernet, architecture, size) -> network`).
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
    """A kind of search: its parameters now, its plan and its run when they are first needed."""

    kind: str
    package: str
    params: type[MethodParams]

    def load(self, module: str, name: str) -> Any:
        """What is called `name` in a module of the method's folder."""
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
                raise ValueError(f"method {kind!r} is in both {found[kind].package} and {package}")
            found[kind] = Method(kind=kind, package=package, params=params)
    if not found:
        raise ValueError("PARETOFIT_METHODS names no method package")
    return found


@cache
def methods() -> dict[str, Method]:
    """Those of this process's settings, loaded when they are first asked for."""
    return load(get_settings().methods)


def setup() -> None:
    """Give the specifications the methods of this process: every process that reads one calls it at its start."""
    register_methods(method.params for method in methods().values())
