"""The trainer: runs one trial in its own process, `python -m paretofit.workers.trainer ORDER --report FD`, or forked
with these arguments.

ORDER is a JSON file with the trial. Results go to the descriptor FD, stop requests arrive on standard input
(`paretofit.workers.messages`), and its output is the trial's log. It has no credentials and ends with its supervisor
(`paretofit.workers.parent_watchdog`).
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import json
import os
import re
import sys
import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

from paretofit.search import registry, trials
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts import failures
from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial, TrialEndedError
from paretofit.workers import parent_watchdog
from paretofit.workers.messages import decode, encode

_OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|out_of_memory|_ALLOC_FAILED", re.IGNORECASE
)


class PipeReporter:
    """The `Reporter` that writes to the supervisor's pipe. It is thread-safe."""

    def __init__(self, pipe: FileIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._requested_stop = Stop.NO
        self.stop_seen = Stop.NO

    def metric(self, name: str, step: int, value: float) -> None:
        self.send("metric", [name, int(step), float(value)])

    def point(self, point: Point) -> None:
        self.send("point", point.model_dump(mode="json"))

    def artifact(self, name: str, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"artifact {name!r} is missing: write {path} before reporting it")
        self.send("artifact", [name, str(path.resolve())])

    def latency(self, measured: Measured) -> None:
        self.send("latency", measured.model_dump(mode="json"))

    def checkpoint(self, path: Path, step: int) -> None:
        if not path.is_dir():
            raise NotADirectoryError(
                f"the checkpoint at step {step} is missing: create the folder {path} before reporting it"
            )
        self.send("checkpoint", [str(path.resolve()), int(step)])

    def should_stop(self) -> Stop:
        self.stop_seen = self._requested_stop
        return self._requested_stop

    def request_stop(self, stop: Stop) -> None:
        """Set the stop that the supervisor requests; `should_stop` returns it."""
        self._requested_stop = stop

    def send(self, kind: str, value: Any) -> None:
        """Write one message. Raises ValueError for a point or output that contains NaN or infinity."""
        line = encode(kind, value)
        with self._lock:
            view = memoryview(line)
            while view:
                view = view[self._pipe.write(view) or 0 :]


def read_order(path: Path) -> Trial:
    """Read the trial from an order file (`write_order`)."""
    order = json.loads(path.read_text())
    return Trial(
        number=order["number"],
        spec=ResolvedSpec.model_validate(order["spec"]),
        params=order["params"],
        dataset=Path(order["dataset"]),
        work=Path(order["work"]),
        device=order["device"],
        seed=order["seed"],
        inputs={name: Path(file) for name, file in order["inputs"].items()},
        checkpoint=None if order["checkpoint"] is None else Path(order["checkpoint"]),
        batch_scale=order["batch_scale"],
        checkpoint_seconds=order["checkpoint_seconds"],
    )


def write_order(path: Path, trial: Trial) -> None:
    """Write a trial to an order file for `read_order`."""
    order = {
        "number": trial.number,
        "spec": trial.spec.model_dump(mode="json"),
        "params": trial.params,
        "dataset": str(trial.dataset),
        "work": str(trial.work),
        "device": trial.device,
        "seed": trial.seed,
        "inputs": {name: str(file) for name, file in trial.inputs.items()},
        "checkpoint": None if trial.checkpoint is None else str(trial.checkpoint),
        "batch_scale": trial.batch_scale,
        "checkpoint_seconds": trial.checkpoint_seconds,
    }
    path.write_text(json.dumps(order))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error: of Python, of torch on a device or the CPU, or of a library below."""
    # torch.OutOfMemoryError is matched by name: this module must not import torch for methods that do not use it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def failure(error: Exception) -> dict[str, Any]:
    """The error of a trial whose method raised: {code, detail, exception, traceback}. Only code `oom` is retried."""
    return failures.describe(error) | ({"code": "oom"} if is_out_of_memory(error) else {})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m paretofit.workers.trainer")
    parser.add_argument("order", type=Path)
    parser.add_argument("--report", type=int, required=True, help="file descriptor for results")
    arguments = parser.parse_args(argv)
    # Write the stacks to the log at a segmentation fault or the supervisor's SIGABRT.
    faulthandler.enable()
    keep_freed_memory()
    # The duplicate is not inherited by processes that the method starts.
    report = os.dup(arguments.report)
    os.close(arguments.report)
    reporter = PipeReporter(FileIO(report, "w"))
    parent_watchdog.attach(lambda line: reporter.request_stop(Stop(decode(line)[1])))
    try:
        registry.setup()
        trial = read_order(arguments.order)
        outputs = trials.run(trial, reporter)
        reporter.send(
            "ended", {"state": "completed", "outputs": outputs, "error": None, "stop_seen": reporter.stop_seen}
        )
    except TrialEndedError as ended:
        about = {"state": ended.state, "outputs": ended.outputs, "error": ended.error}
        reporter.send("ended", about | {"stop_seen": reporter.stop_seen})
    except Exception as error:
        reporter.send("failed", failure(error))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
