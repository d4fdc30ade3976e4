"""The chaos run: `python -m tests.chaos --seconds 600 --seed 1 [--without GUARD]`.

The whole service runs under load while its parts are killed, stopped, flushed and restarted on a schedule drawn from
the seed. Then the service has to settle, and violations of the invariants are counted. The last line is JSON on
standard output. Exit status 0: no violation, and a full run (600 s or more) had the minimum numbers of faults; 3: a
violation, or too few faults.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import OperationalError

from paretofit.db import states
from paretofit.db.engine import connect, transaction
from paretofit.db.tables import DatasetRow, SearchRow
from tests.chaos import invariants, schedule, summary, triggers, witness
from tests.chaos.cluster import Cluster
from tests.chaos.faults import Faults
from tests.chaos.invariants import INVARIANTS, Evidence
from tests.chaos.load import Load
from tests.chaos.schedule import FAULTS, FULL_SECONDS, GUARDS, REQUESTS, Action, Guard
from tests.chaos.stopwatch import Stopwatch

EXIT_VIOLATION: Final = 3
TRAINERS: Final = 4
_TICK: Final = 0.05
_RETRY_SECONDS: Final = 6.0
"""Seconds for which a fault without a target is retried."""
_SHOWN: Final = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults and the load")
    parser.add_argument("--without", choices=GUARDS, help="disable a guard; the run must then find a violation")
    parser.add_argument(
        "--keep", type=Path, help="a new folder that keeps the files of the run; by default nothing is kept"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="paretofit-chaos-"))
    try:
        result = run(folder, seconds=arguments.seconds, seed=arguments.seed, without=arguments.without)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else EXIT_VIOLATION


def run(folder: Path, *, seconds: float, seed: int, without: Guard | None) -> dict[str, Any]:
    """Run in `folder`. Returns the summary."""
    rng = random.Random(seed)
    actions = schedule.draw(rng, seconds, without)
    with Cluster(folder, trainers=TRAINERS, without=without) as cluster:
        log_progress(f"starting the service in {folder}")
        cluster.start()
        engine = connect(cluster.database_url, application="chaos")
        triggers.install(engine)
        load = Load(cluster.url, folder, rng)
        faults = Faults(cluster, engine, rng)
        try:
            load.prepare()
            log_progress(f"{seconds:g} s of faults, seed {seed}" + (f", without {without}" if without else ""))
            _run_schedule(cluster, faults, load, actions, seconds)
            faults.repair(everything=True)
            log_progress("no more faults: waiting for the service to settle")
            _settle(cluster, load, engine, timeout=90 + 0.1 * seconds)
        finally:
            load.close()
        evidence = Evidence(
            engine, cluster.home / "blobs", witness.read(cluster.diaries), load, faults.stopped, cluster.failures
        )
        living = list(invariants.living_trainers(evidence))
        cluster.stop_parts()
        violations = {name: list(check(evidence)) for name, check in INVARIANTS.items()}
        violations["living_trainers"] = living
        numbers = summary.summarize(evidence, faults.done, violations)
        engine.dispose()
    too_few = summary.too_few(numbers) if seconds >= FULL_SECONDS else []
    for line in [*(f"{name}: {line}" for name, lines in violations.items() for line in lines[:_SHOWN]), *too_few]:
        log_progress(f"VIOLATION {line}")
    ok = not too_few and not any(violations.values())
    return {"seed": seed, "seconds": seconds, "without": without, **numbers, "ok": ok}


def _run_schedule(cluster: Cluster, faults: Faults, load: Load, actions: list[Action], seconds: float) -> None:
    """Run the schedule. A fault without a target is retried for a while."""
    watch = Stopwatch()
    handlers: dict[str, Callable[[], bool]] = {
        **{kind: partial(faults.inject, kind) for kind in FAULTS},
        **{kind: partial(load.request, kind) for kind in REQUESTS},
    }
    upcoming, waiting = deque(actions), list[Action]()
    while (now := watch.seconds()) < seconds:
        while upcoming and upcoming[0].at <= now:
            waiting.append(upcoming.popleft())
        waiting = [action for action in waiting if not _attempt(action, handlers[action.kind], now)]
        faults.repair()
        cluster.check()
        time.sleep(_TICK)


def _attempt(action: Action, handler: Callable[[], bool], now: float) -> bool:
    """Try an action. Returns whether it is done: it succeeded, or its time is over."""
    succeeded = handler()
    if succeeded:
        log_progress(f"{now:6.1f} s  {action.kind}")
    return succeeded or now > action.at + _RETRY_SECONDS


def _settle(cluster: Cluster, load: Load, engine: Engine, *, timeout: float) -> None:
    """Wait until all users have their responses and all accepted work is finished, at most `timeout` seconds."""
    watch = Stopwatch()
    unfinished_before = -1
    while (now := watch.seconds()) < timeout:
        cluster.check()
        try:
            unfinished = _count_unfinished(engine)
        except OperationalError:
            continue
        if unfinished == 0 and load.is_idle():
            log_progress(f"settled after {now:.1f} s")
            return
        if unfinished != unfinished_before:
            log_progress(f"unfinished searches and datasets: {unfinished}")
            unfinished_before = unfinished
        time.sleep(0.2)
    log_progress(f"not settled after {timeout:g} s")


def _count_unfinished(engine: Engine) -> int:
    with transaction(engine) as session:
        searches = session.scalar(
            select(func.count()).select_from(SearchRow).where(SearchRow.state.not_in(states.terminal(states.SEARCH)))
        )
        datasets = session.scalar(
            select(func.count()).select_from(DatasetRow).where(DatasetRow.state.not_in(states.terminal(states.DATASET)))
        )
    return (searches or 0) + (datasets or 0)


def log_progress(line: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
