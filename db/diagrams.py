"""`docs/states.md` from `paretofit.db.states`: `python -m paretofit.db.diagrams >docs/states.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

from paretofit.db import states

COMMAND: Final = "python -m paretofit.db.diagrams >docs/states.md"
_TITLES: Final[Mapping[str, states.Machine]] = {
    "Searches": states.SEARCH,
    "Trials": states.TRIAL,
    "Datasets": states.DATASET,
    "Weights": states.WEIGHTS,
    "Exports": states.EXPORT,
    "Webhook deliveries": states.DELIVERY,
}
_PREFACE: Final = f"""# States

What may follow what, and when. Every change is an `UPDATE` that is guarded by the table that this page is made from
(`db/states.py`), so nothing else can happen.

<!-- Made by `{COMMAND}`; a test holds it against the code. -->
"""


def render() -> str:
    """The page: a diagram and a table for each kind of row."""
    return "\n".join([_PREFACE, *(line for title, machine in _TITLES.items() for line in _section(title, machine))])


def _section(title: str, machine: states.Machine) -> Iterator[str]:
    yield from (f"## {title}", "", "```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(machine))}")
    for before, targets in machine.items():
        yield from (f"    {before} --> {after}" for after in targets)
        if not targets:
            yield f"    {before} --> [*]"
    yield from ("```", "", "| From | To | When |", "|---|---|---|")
    for before, targets in machine.items():
        yield from (f"| {before} | {after} | {when} |" for after, when in targets.items())
    ends = ", ".join(f"`{state}`" for state, targets in machine.items() if not targets)
    yield from ("", f"Nothing follows {ends}.", "")


if __name__ == "__main__":
    sys.stdout.write(render())
