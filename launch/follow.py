"""Copies new lines of log files to a terminal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TextIO

PERIOD = 0.2


class Follower:
    """Copies every line that is appended to the followed files, prefixed with the file's label."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._files: dict[Path, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-follower", daemon=True)
        self._thread.start()

    def follow(self, label: str, path: Path) -> None:
        """Copy what is appended to `path` from now on; the file need not exist yet."""
        with self._lock:
            self._files.setdefault(path, (label, path.stat().st_size if path.exists() else 0))

    def stop(self) -> None:
        """Copy the rest and stop."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        with self._lock:
            for path, (label, position) in self._files.items():
                size = path.stat().st_size if path.exists() else 0
                if size == position:
                    continue
                start = position if size > position else 0  # a shorter file is a new one: the log was rotated
                with path.open("rb") as file:
                    file.seek(start)
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                self._files[path] = (label, start + len(whole))
                self._output.writelines(
                    f"{label:>12} | {line}\n" for line in whole.decode(errors="replace").splitlines()
                )
            self._output.flush()
