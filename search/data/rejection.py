"""Reasons to reject a dataset, for its user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` is stable for programs; `detail` states the problem and what to do."""

    code: str
    detail: str


class RejectedError(Exception):
    """The data cannot become a dataset; `report` holds the counts so far."""

    def __init__(self, reasons: Sequence[Reason], report: dict[str, Any] | None = None) -> None:
        super().__init__("; ".join(f"{reason.code}: {reason.detail}" for reason in reasons))
        self.reasons = tuple(reasons)
        self.report = report


def reject(code: str, detail: str) -> RejectedError:
    """A rejection for one reason."""
    return RejectedError([Reason(code, detail)])
