"""Opens an exported file with its runtime."""

from __future__ import annotations

from pathlib import Path

from paretofit.search.contracts.point import Format
from paretofit.search.export.backends import Session, backend


def open_session(path: Path, file_format: Format, threads: int = 1) -> Session:
    """A file that `write` wrote, ready to run on the CPU with this number of threads.

    The torch formats run with torch's own number of threads, which the caller sets. Raises ValueError or RuntimeError
    for a damaged file, depending on its runtime, and ImportError without the runtime.
    """
    return backend(file_format).open_file(path, threads)
