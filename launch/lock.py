"""One service per folder: a lock that the kernel takes back when its last holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from paretofit.launch.process import LaunchError


class FolderLock:
    """An exclusive lock on a folder, held until `release` and by every process that inherits `descriptor`.

    Waits `timeout` seconds for a former holder to end. Raises LaunchError that names the holder.
    """

    def __init__(self, folder: Path, *, timeout: float) -> None:
        path = folder / "lock"
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                holder = os.pread(self.descriptor, 32, 0).decode().strip() or "unknown"
                os.close(self.descriptor)
                raise LaunchError(
                    f"{folder} is in use by another service (process {holder}): stop that one, "
                    "or set PARETOFIT_HOME to a folder of its own for this one"
                ) from None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. Processes that inherited the descriptor keep holding it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
