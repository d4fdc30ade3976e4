"""The fenced blocks of README and documentation, and what is to be done with each.

`sh` and `python` blocks are run, in the order of their page, in one folder for each page; one whose first line begins
with `# a service of its own` apart from the others, in or as such a service. `# on another machine` is said of a
worker, whose settings are all that it shares with a service; `# with Docker` of what is run where Docker is. One whose
first line is `# not run here: REASON` is only parsed. A `python` block whose first line is `# FOLDER/NAME.py` is
written to that file.
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
_APART: Final = re.compile(r"# (a service of its own|on another machine|with Docker)\b.*\n")
_FILE: Final = re.compile(r"# (\w+/\w+\.py)\n")
_ELSEWHERE: Final = re.compile(r"(make (test|check|demo)\b.*\n)+")
"""What has tests of its own, or is the tests."""
_NOT_HERE: Final = re.compile(r"# not run here: \S.*\n")
"""What needs something that no test has, such as a network."""
_FOREGROUND: Final = re.compile(r"(\w+=\S+ )*(make up|paretofit up)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it begins, its language, its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not (_ELSEWHERE.fullmatch(self.text) or _NOT_HERE.match(self.text))

    @property
    def apart(self) -> str | None:
        """How it is run if not in its page's order: what its first line says."""
        match = _APART.match(self.text)
        return match[1] if match else None

    @property
    def command(self) -> str:
        """Its text without the line that says how it is run."""
        return _APART.sub("", self.text, count=1)

    @property
    def starts_a_service(self) -> bool:
        """Whether it runs until Ctrl-C."""
        return _FOREGROUND.match(self.command) is not None

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        match = _FILE.match(self.text)
        return match[1] if match else None


def pages() -> list[Path]:
    """README, then the documentation in the order in which it is read."""
    folder = ROOT / "docs"
    return [
        ROOT / "README.md",
        folder / "quickstart.md",
        *sorted(set(folder.rglob("*.md")) - {folder / "quickstart.md"}),
    ]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    return list(_found(page.read_text(), page.relative_to(ROOT).as_posix()))


def _found(text: str, name: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, match.start()) + 1, match[1], match[2])
