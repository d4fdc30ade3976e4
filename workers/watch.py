"""One trainer process until it ends: passes its messages on, and stops it when that is requested."""

from __future__ import annotations

import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog

from paretofit.core.settings import Settings
from paretofit.db.trials import OUT_OF_MEMORY, Outcome
from paretofit.search.contracts.trial import Stop
from paretofit.workers.lease_renewer import LeaseRenewer
from paretofit.workers.memory import oom_kills
from paretofit.workers.messages import decode, storable
from paretofit.workers.process import Process
from paretofit.workers.report_writer import ReportWriter
from paretofit.workers.shutdown_signal import draining

DRAIN_SECONDS: Final = 20.0
_LONGEST_LOG_LINE: Final = 8_192
_LAST_LINES: Final = 20
_TICK: Final = 0.05
_EXIT_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 3.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became of an attempt: a state to finish in, "queued" to hand the trial back, or "crashed"."""

    kind: Outcome | Literal["queued", "crashed"]
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def requested_stop(renewer: LeaseRenewer) -> Stop:
    """How the trial is to stop now: because its search asks for it, or because this worker stops."""
    asked = renewer.asked
    if asked.cancel:
        return Stop.CANCEL
    if asked.pause or draining.is_set():
        return Stop.DRAIN
    return Stop.LIMIT if asked.limit else Stop.NO


class TrainerWatch:
    """One trainer from its start to its end: hands on what it says, and stops it when that is asked.

    Stopping begins with a word. A cancelled trainer gets SIGTERM half a second later and SIGKILL after the grace; one
    that drains has 20 s to save its work; one that is told of a limit has until the limit and the grace. One that
    stalls writes its stacks to the log and is killed.
    """

    _RANK: Final = (Stop.NO, Stop.LIMIT, Stop.DRAIN, Stop.CANCEL)

    def __init__(
        self, process: Process, renewer: LeaseRenewer, report_writer: ReportWriter, settings: Settings
    ) -> None:
        self._process = process
        self._renewer = renewer
        self._report_writer = report_writer
        self._grace = settings.stop_grace_seconds
        self._stall_seconds = settings.stall_seconds
        self._began = time.monotonic()
        self._oom_kills = oom_kills()
        self._stop_sent = Stop.NO
        self._broke: Literal["limit", "stalled"] | None = None
        self._due: list[tuple[float, signal.Signals]] = []
        self._sent: set[signal.Signals] = set()
        self._final_message: tuple[str, Any] | None = None
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def wait(self) -> AttemptResult | None:
        """Returns when nothing of the trainer runs any more; None if it was killed because nothing can be written."""
        while not self._process.has_ended():
            if self._renewer.is_over or self._report_writer.error is not None:
                _log.warning("trainer killed: its reports cannot be written")
                self._process.end()
                return None
            if self._report_writer.is_full:
                time.sleep(_TICK)
            else:
                self._take(self._process.read(_TICK))
            self._stop()
        status = self._process.end()
        self._take(self._process.read_rest(_EXIT_SECONDS))
        return self._result(status)

    def _take(self, lines: list[tuple[str, bytes]]) -> None:
        for source, line in lines:
            if source != "report":
                # PostgreSQL's text holds no NUL.
                text = line[:_LONGEST_LOG_LINE].decode(errors="replace").replace("\0", "\ufffd")
                self._report_writer.put("log", [source, text])
                if source == "stderr":
                    self._last.append(text)
                continue
            try:
                kind, value = decode(line)
            except ValueError as error:
                kind, value = "malformed", str(error)
            if kind in {"ended", "failed"}:
                self._final_message = (kind, storable(value))
                self._later((_EXIT_SECONDS, signal.SIGKILL))
            else:
                self._report_writer.put(kind, value)

    def _stop(self) -> None:
        now = time.monotonic()
        wanted, asked = requested_stop(self._renewer), self._renewer.asked
        if self._RANK.index(wanted) > self._RANK.index(self._stop_sent):
            self._stop_sent = wanted
            _log.info("trainer asked to stop", stop=wanted.value)
            self._process.tell(wanted)
            if wanted is Stop.CANCEL:
                self._later((0.5, signal.SIGTERM), (0.5 + self._grace, signal.SIGKILL))
            elif wanted is Stop.DRAIN:
                self._later((DRAIN_SECONDS, signal.SIGTERM), (DRAIN_SECONDS + _LAST_SECONDS, signal.SIGKILL))
        # Progress is counted from the claim on, but laying a large dataset out is not the trainer's fault.
        if self._broke is None and asked.stalled and now > self._began + self._stall_seconds:
            self._broke = "stalled"
            _log.warning("trainer stalled")
            self._later((0, signal.SIGABRT), (_LAST_SECONDS, signal.SIGKILL))
        elif self._broke is None and asked.overdue:
            self._broke = "limit"
            self._later((self._grace, signal.SIGTERM), (self._grace + _LAST_SECONDS, signal.SIGKILL))
        for at, number in self._due:
            if now >= at and number not in self._sent:
                self._sent.add(number)
                self._process.signal(number)

    def _later(self, *signals: tuple[float, signal.Signals]) -> None:
        now = time.monotonic()
        self._due += [(now + seconds, number) for seconds, number in signals]

    def _result(self, status: int) -> AttemptResult:
        match self._final_message:
            case ("ended", {"told": Stop.NO | Stop.LIMIT, "state": state, "outputs": outputs, "error": error}):
                return AttemptResult(state, outputs=outputs, error=error)
            case ("failed", error) if self._stop_sent in {Stop.NO, Stop.LIMIT}:
                return AttemptResult("crashed" if error["code"] == OUT_OF_MEMORY else "failed", error=error)
        if self._stop_sent == Stop.CANCEL:
            return AttemptResult("cancelled")
        if self._stop_sent == Stop.DRAIN:
            return AttemptResult("queued")
        last = list(self._last)
        if self._broke == "limit" and self._sent:
            detail = f"it did not end within {self._grace:g} s of the search's time limit; its reports are kept"
            return AttemptResult("cancelled", error={"code": "limit", "detail": detail})
        if self._broke == "stalled":
            detail = f"the trainer reported nothing for {self._stall_seconds:g} s; the log ends with where it was"
            return AttemptResult("crashed", error={"code": "stalled", "detail": detail, "log": last})
        if status == -signal.SIGKILL and signal.SIGKILL not in self._sent and oom_kills() > self._oom_kills:
            detail = "the system ran out of memory and killed the trainer"
            return AttemptResult("crashed", error={"code": OUT_OF_MEMORY, "detail": detail, "log": last})
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return AttemptResult(
            "crashed", error={"code": "crashed", "detail": f"the trainer ended by {name}", "log": last}
        )
