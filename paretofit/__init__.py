"""The Python interface of Paretofit: `Client` and `AsyncClient` connect to a service, `load` loads a downloaded
checkpoint as a torch module.

Imports are lazy; only `load` requires torch.
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

_MODULES = {
    "ApiError": "paretofit.client.errors",
    "AsyncClient": "paretofit.client.client",
    "Client": "paretofit.client.client",
    "DigestMismatchError": "paretofit.client.errors",
    "UnreachableError": "paretofit.client.errors",
}


def load(path: str | Path) -> nn.Module:
    """Load the network of a checkpoint, in evaluation mode.

    Args:
        path: A safetensors checkpoint, as `Point.download` writes it.

    Returns:
        The torch module. Its attribute `record` holds the point: input size, classes, preprocessing and metrics.

    Raises:
        ImportError: torch is not installed (`pip install 'paretofit[worker]'`).
        ValueError: The file is not a checkpoint.
    """
    from paretofit.models.checkpoint import load as load_checkpoint

    return load_checkpoint(path)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
