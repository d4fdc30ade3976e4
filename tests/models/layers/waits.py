"""Whether the host would wait for a device: counted on the CPU, where it never has to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

HOST = {"_local_scalar_dense", "_to_copy", "nonzero", "is_nonzero", "equal", "item"}
"""Operations at which the host waits for a device, or may."""


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Keeps the names of such operations within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (name := func.overloadpacket.__name__) in HOST:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def waits(run: Callable[[], object]) -> list[str]:
    """Such operations of a run, in order."""
    counted = Counted()
    with counted:
        run()
    return counted.names
