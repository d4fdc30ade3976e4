"""Watches a trainer process until it ends: forwards its messages, and stops it on request."""

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
_KILL_DELAY_SECONDS: Final = 3.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt: the trial's final state, "queued" to release the trial, or "crashed"."""

    kind: Outcome | Literal["queued", "crashed"]
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def requested_stop(renewer: LeaseRenewer) -> Stop:
    """The stop that the search requests, or DRAIN if this worker is shutting down."""
    flags = renewer.control_flags
    if flags.cancel:
        return Stop.CANCEL
    if flags.pause or draining.is_set():
        return Stop.DRAIN
    return Stop.LIMIT if flags.limit else Stop.NO


class TrainerWatch:
    """Forwards a trainer's messages until it ends, and stops it on request.

    A stop begins with a message to the trainer. On cancel, SIGTERM follows after 0.5 s and SIGKILL after the grace
    period. On drain, the trainer has 20 s to save its work. At a limit, it has until the limit plus the grace period.
    A stalled trainer gets SIGABRT, which writes its stacks to the log, and is then killed.
    """

    _SEVERITY: Final = (Stop.NO, Stop.LIMIT, Stop.DRAIN, Stop.CANCEL)

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
        self._violation: Literal["limit", "stalled"] | None = None
        self._scheduled: list[tuple[float, signal.Signals]] = []
        self._signals_sent: set[signal.Signals] = set()
        self._final_message: tuple[str, Any] | None = None
        self._stderr_tail: deque[str] = deque(maxlen=_LAST_LINES)

    def wait(self) -> AttemptResult | None:
        """Wait until the trainer's process group has ended. None: killed because its reports cannot be written."""
        while not self._process.has_ended():
            if self._renewer.is_lost or self._report_writer.error is not None:
                _log.warning("trainer_killed", reason="reports cannot be written")
                self._process.end()
                return None
            if self._report_writer.is_full:
                time.sleep(_TICK)
            else:
                self._forward(self._process.read(_TICK))
            self._enforce_stops()
        status = self._process.end()
        self._forward(self._process.read_rest(_EXIT_SECONDS))
        return self._result(status)

    def _forward(self, lines: list[tuple[str, bytes]]) -> None:
        for source, line in lines:
            if source != "report":
                # PostgreSQL's text holds no NUL.
                text = line[:_LONGEST_LOG_LINE].decode(errors="replace").replace("\0", "\ufffd")
                self._report_writer.put("log", [source, text])
                if source == "stderr":
                    self._stderr_tail.append(text)
                continue
            try:
                kind, value = decode(line)
            except ValueError as error:
                kind, value = "malformed", str(error)
            if kind in {"ended", "failed"}:
                self._final_message = (kind, storable(value))
                self._schedule((_EXIT_SECONDS, signal.SIGKILL))
            else:
                self._report_writer.put(kind, value)

    def _enforce_stops(self) -> None:
        now = time.monotonic()
        requested, flags = requested_stop(self._renewer), self._renewer.control_flags
        if self._SEVERITY.index(requested) > self._SEVERITY.index(self._stop_sent):
            self._stop_sent = requested
            _log.info("trainer_stop_requested", stop=requested.value)
            self._process.request_stop(requested)
            if requested is Stop.CANCEL:
                self._schedule((0.5, signal.SIGTERM), (0.5 + self._grace, signal.SIGKILL))
            elif requested is Stop.DRAIN:
                self._schedule((DRAIN_SECONDS, signal.SIGTERM), (DRAIN_SECONDS + _KILL_DELAY_SECONDS, signal.SIGKILL))
        # The stall timer starts at the claim, but the time to stage a large dataset does not count.
        if self._violation is None and flags.stalled and now > self._began + self._stall_seconds:
            self._violation = "stalled"
            _log.warning("trainer_stalled", stall_seconds=self._stall_seconds)
            self._schedule((0, signal.SIGABRT), (_KILL_DELAY_SECONDS, signal.SIGKILL))
        elif self._violation is None and flags.overdue:
            self._violation = "limit"
            self._schedule((self._grace, signal.SIGTERM), (self._grace + _KILL_DELAY_SECONDS, signal.SIGKILL))
        for at, number in self._scheduled:
            if now >= at and number not in self._signals_sent:
                self._signals_sent.add(number)
                self._process.signal(number)

    def _schedule(self, *signals: tuple[float, signal.Signals]) -> None:
        now = time.monotonic()
        self._scheduled += [(now + seconds, number) for seconds, number in signals]

    def _result(self, status: int) -> AttemptResult:
        match self._final_message:
            case ("ended", {"stop_seen": Stop.NO | Stop.LIMIT, "state": state, "outputs": outputs, "error": error}):
                return AttemptResult(state, outputs=outputs, error=error)
            case ("failed", error) if self._stop_sent in {Stop.NO, Stop.LIMIT}:
                return AttemptResult("crashed" if error["code"] == OUT_OF_MEMORY else "failed", error=error)
        if self._stop_sent == Stop.CANCEL:
            return AttemptResult("cancelled")
        if self._stop_sent == Stop.DRAIN:
            return AttemptResult("queued")
        tail = list(self._stderr_tail)
        if self._violation == "limit" and self._signals_sent:
            detail = (
                f"the trainer did not stop within {self._grace:g} s of the search's time limit; its reports are kept: "
                "raise the limit to train for longer"
            )
            return AttemptResult("cancelled", error={"code": "limit", "detail": detail})
        if self._violation == "stalled":
            detail = (
                f"the trainer made no progress for {self._stall_seconds:g} s (PARETOFIT_STALL_SECONDS): see the stack "
                "traces at the end of the log"
            )
            return AttemptResult("crashed", error={"code": "stalled", "detail": detail, "log": tail})
        if status == -signal.SIGKILL and signal.SIGKILL not in self._signals_sent and oom_kills() > self._oom_kills:
            detail = "the kernel killed the trainer because the machine ran out of memory"
            return AttemptResult("crashed", error={"code": OUT_OF_MEMORY, "detail": detail, "log": tail})
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        detail = f"the trainer exited with {name}: see the end of the log"
        return AttemptResult("crashed", error={"code": "crashed", "detail": detail, "log": tail})
