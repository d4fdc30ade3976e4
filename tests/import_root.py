"""The package for an interpreter without the finder of the editable install."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("api", "core", "db", "launch", "models", "search", "workers")
"""Folders of the repository that are subpackages of `paretofit`."""


def link(folder: Path) -> Path:
    """Make links in a folder in which the package lies as it is installed; the folder, for `sys.path`."""
    (folder / "paretofit").mkdir(parents=True)
    for path in (ROOT / "paretofit").iterdir():
        (folder / "paretofit" / path.name).symlink_to(path)
    for part in PARTS:
        (folder / "paretofit" / part).symlink_to(ROOT / part)
    return folder
