from __future__ import annotations

import re
from pathlib import Path

from paretofit.db import diagrams, states

PAGE = Path(__file__).parents[2] / "docs" / "states.md"

MACHINES = (states.SEARCH, states.TRIAL, states.DATASET, states.WEIGHTS, states.EXPORT, states.DELIVERY)


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == diagrams.render(), f"outdated; refresh it with: {diagrams.COMMAND}"


def test_page_shows_every_transition_and_no_other() -> None:
    sections = re.split(r"^## ", diagrams.render(), flags=re.MULTILINE)[1:]
    for section, machine in zip(sections, MACHINES, strict=True):
        moves = {(before, after) for before, targets in machine.items() for after in targets}
        ends = {(before, "[*]") for before in states.terminal(machine)}
        arrows = set(re.findall(r"^    (\S+) --> (\S+)$", section, re.MULTILINE))
        assert arrows == {("[*]", next(iter(machine)))} | moves | ends
        assert set(re.findall(r"^\| (\w+) \| (\w+) \| .+ \|$", section, re.MULTILINE)) == moves | {("From", "To")}


def test_every_state_machine_has_a_final_state() -> None:
    for machine in MACHINES:
        reached = {next(iter(machine))}
        while grown := {after for before in reached for after in machine[before]} - reached:
            reached |= grown
        assert reached == set(machine)
        assert states.terminal(machine)
