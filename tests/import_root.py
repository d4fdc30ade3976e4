"""The installed layout of the package, for interpreters without the finder of the editable install."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PARTS: Final[list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["paretofit"]["subpackages"]
"""Folders of the repository that are subpackages of `paretofit`."""


def link(folder: Path) -> Path:
    """Create links with the installed layout of the package in a folder. Returns the folder, for `sys.path`."""
    (folder / "paretofit").mkdir(parents=True)
    for path in (ROOT / "paretofit").iterdir():
        (folder / "paretofit" / path.name).symlink_to(path)
    for part in PARTS:
        (folder / "paretofit" / part).symlink_to(ROOT / part)
    return folder
