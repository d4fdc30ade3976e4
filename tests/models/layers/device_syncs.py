"""Operations that would synchronize the host with a device, counted on the CPU, where no sync is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

SYNCING = {"_local_scalar_dense", "_to_copy", "nonzero", "is_nonzero", "equal", "item"}
"""Operations at which the host waits, or may wait, for a device."""


class SyncCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Records the names of syncing operations that run inside it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (name := func.overloadpacket.__name__) in SYNCING:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def device_syncs(run: Callable[[], object]) -> list[str]:
    """The syncing operations of a run, in order."""
    counter = SyncCounter()
    with counter:
        run()
    return counter.names
