"""Why a dataset is refused, so that its user can act on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` is stable and for programs; `detail` names what was found and what to do."""

    code: str
    detail: str


class RejectedError(Exception):
    """The data cannot become a dataset; `report` says what was counted, where it came so far."""

    def __init__(self, reasons: Sequence[Reason], report: dict[str, Any] | None = None) -> None:
        super().__init__("; ".join(f"{reason.code}: {reason.detail}" for reason in reasons))
        self.reasons = tuple(reasons)
        self.report = report


def reject(code: str, detail: str) -> RejectedError:
    """A rejection for one reason."""
    return RejectedError([Reason(code, detail)])
