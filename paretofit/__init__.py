"""Paretofit from Python: `Client` and `AsyncClient` speak to a service, `load` turns a downloaded checkpoint into a
torch module.

Nothing is imported before it is used; only `load` needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from paretofit.client.client import AsyncClient as AsyncClient
    from paretofit.client.client import Client as Client
    from paretofit.client.errors import ApiError as ApiError
    from paretofit.client.errors import DigestMismatchError as DigestMismatchError
    from paretofit.client.errors import UnreachableError as UnreachableError

__all__ = ["ApiError", "AsyncClient", "Client", "DigestMismatchError", "UnreachableError", "load"]

_HOMES = {
    "ApiError": "paretofit.client.errors",
    "AsyncClient": "paretofit.client.client",
    "Client": "paretofit.client.client",
    "DigestMismatchError": "paretofit.client.errors",
    "UnreachableError": "paretofit.client.errors",
}


def load(path: str | Path) -> nn.Module:
    """The network of a checkpoint, in evaluation mode; `.record` is the point it came from.

    Raises ImportError without torch (`pip install 'paretofit[worker]'`), ValueError for a file that is no checkpoint.
    """
    from paretofit.models.checkpoint import load as load_checkpoint

    return load_checkpoint(path)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
