"""The fenced blocks of README and documentation, and how each is tested.

`sh` and `python` blocks are run in the order of their page, in one folder per page. The first line may change that:

- `# a service of its own`: run separately, in or as a service of its own.
- `# on another machine`: a worker that shares only settings with a service.
- `# with Docker`: run where Docker is available.
- `# not run here: REASON`: only parsed.
- `# FOLDER/NAME.py` (python): written to that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LANGUAGES: Final = frozenset({"sh", "python", "yaml", "text", "ini", "mermaid"})
_FENCE: Final = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKER: Final = re.compile(r"# (a service of its own|on another machine|with Docker)\b.*\n")
_FILE: Final = re.compile(r"# (\w+/\w+\.py)\n")
_TESTED_ELSEWHERE: Final = re.compile(r"(make (test|check|demo)\b.*\n)+")
"""Commands that other tests cover, or that run the tests."""
_NOT_RUN: Final = re.compile(r"# not run here: \S.*\n")
"""Blocks with needs that tests cannot meet, such as a network."""
_FOREGROUND: Final = re.compile(r"(\w+=\S+ )*(make up|paretofit up)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block with its position, language and text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not (_TESTED_ELSEWHERE.fullmatch(self.text) or _NOT_RUN.match(self.text))

    @property
    def marker(self) -> str | None:
        """The marker in the first line of a block that is run separately."""
        match = _MARKER.match(self.text)
        return match[1] if match else None

    @property
    def command(self) -> str:
        """The text without the marker line."""
        return _MARKER.sub("", self.text, count=1)

    @property
    def starts_a_service(self) -> bool:
        """Whether the block runs until Ctrl-C."""
        return _FOREGROUND.match(self.command) is not None

    @property
    def file(self) -> str | None:
        """The file that the block is written to."""
        match = _FILE.match(self.text)
        return match[1] if match else None


def pages() -> list[Path]:
    """README, the quickstart, then all other pages."""
    folder = ROOT / "docs"
    return [
        ROOT / "README.md",
        folder / "quickstart.md",
        *sorted(set(folder.rglob("*.md")) - {folder / "quickstart.md"}),
    ]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return list(_fenced(page.read_text(), page.relative_to(ROOT).as_posix()))


def _fenced(text: str, name: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, match.start()) + 1, match[1], match[2])
