"""What holds for every kind of leased job; each kind has tests of its own besides."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.db.jobs import KINDS, JobKind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_every_move_of_a_job_is_drawn(kind: JobKind[Any]) -> None:
    first = next(iter(kind.machine))
    assert kind.leased in kind.machine[first]
    assert kind.failed in kind.machine[kind.leased]
    assert kind.queued == kind.leased or {kind.queued} <= set(kind.machine[kind.leased])


def test_no_two_kinds_share_a_table_or_a_message() -> None:
    assert len({kind.row for kind in KINDS}) == len({kind.task for kind in KINDS}) == len(KINDS)
