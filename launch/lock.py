"""A lock that allows one service per folder; the kernel releases it when its last holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from paretofit.launch.process import LaunchError


class FolderLock:
    """An exclusive lock on a folder, held until `release` and by every process that inherits `descriptor`.

    Waits at most `timeout` seconds for another holder to end. Raises LaunchError, which names the holder.
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
                    f"{folder} is in use by another service (process {holder}): stop that service, "
                    "or set PARETOFIT_HOME to another folder for this one"
                ) from None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock. Processes that inherited the descriptor keep holding it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
