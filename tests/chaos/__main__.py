"""The chaos run: `python -m tests.chaos --seconds 600 --seed 1 [--without GUARD]`.

The whole service runs under load while its parts are killed, stopped, flushed and restarted, drawn from the seed; then
everything has to settle, and the invariants are counted. The last line is JSON on standard output. Exit status 0: no
violation, and a full run (600 s or more) had as many faults as it promises; 3: a violation, or too few faults.
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
from tests.chaos.schedule import FAULTS, FULL_SECONDS, GUARDS, REQUESTS, Guard, Moment
from tests.chaos.stopwatch import Stopwatch

RED: Final = 3
TRAINERS: Final = 4
_TICK: Final = 0.05
_WAITS: Final = 6.0
"""Seconds that a fault waits for something to hit."""
_SHOWN: Final = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="what the faults and the load are drawn from")
    parser.add_argument("--without", choices=GUARDS, help="take out a guard: the run must turn red")
    parser.add_argument("--keep", type=Path, help="a new folder for everything that the run leaves; unset: nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="paretofit-chaos-"))
    try:
        result = run(folder, seconds=arguments.seconds, seed=arguments.seed, without=arguments.without)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else RED


def run(folder: Path, *, seconds: float, seed: int, without: Guard | None) -> dict[str, Any]:
    """One run in `folder`; its summary."""
    rng = random.Random(seed)
    moments = schedule.draw(rng, seconds, without)
    with Cluster(folder, trainers=TRAINERS, without=without) as cluster:
        say(f"starting the service in {folder}")
        cluster.start()
        engine = connect(cluster.database_url, application="chaos")
        triggers.install(engine)
        load = Load(cluster.url, folder, rng)
        faults = Faults(cluster, engine, rng)
        try:
            load.prepare()
            say(f"{seconds:g} s of faults, seed {seed}" + (f", without {without}" if without else ""))
            _hurt(cluster, faults, load, moments, seconds)
            faults.repair(everything=True)
            say("no more faults: everything has to settle")
            _settle(cluster, load, engine, patience=90 + 0.1 * seconds)
        finally:
            load.close()
        evidence = Evidence(
            engine, cluster.home / "blobs", witness.read(cluster.diaries), load, faults.stopped, cluster.failures
        )
        alive = list(invariants.living_trainers(evidence))
        cluster.stop_parts()
        violations = {name: list(check(evidence)) for name, check in INVARIANTS.items()}
        violations["living_trainers"] = alive
        numbers = summary.summarize(evidence, faults.done, violations)
        engine.dispose()
    too_few = summary.too_few(numbers) if seconds >= FULL_SECONDS else []
    for line in [*(f"{name}: {line}" for name, found in violations.items() for line in found[:_SHOWN]), *too_few]:
        say(f"VIOLATION {line}")
    ok = not too_few and not any(violations.values())
    return {"seed": seed, "seconds": seconds, "without": without, **numbers, "ok": ok}


def _hurt(cluster: Cluster, faults: Faults, load: Load, moments: list[Moment], seconds: float) -> None:
    """Run the schedule. A fault without a target is retried for a while."""
    watch = Stopwatch()
    acts: dict[str, Callable[[], bool]] = {
        **{kind: partial(faults.inject, kind) for kind in FAULTS},
        **{kind: partial(load.request, kind) for kind in REQUESTS},
    }
    coming, waiting = deque(moments), list[Moment]()
    while (now := watch.seconds()) < seconds:
        while coming and coming[0].at <= now:
            waiting.append(coming.popleft())
        waiting = [moment for moment in waiting if not _happen(moment, acts[moment.kind], now)]
        faults.repair()
        cluster.check()
        time.sleep(_TICK)


def _happen(moment: Moment, act: Callable[[], bool], now: float) -> bool:
    """Whether the moment is over: it happened, or it is given up."""
    happened = act()
    if happened:
        say(f"{now:6.1f} s  {moment.kind}")
    return happened or now > moment.at + _WAITS


def _settle(cluster: Cluster, load: Load, engine: Engine, *, patience: float) -> None:
    """Wait until all users have their answers and all that was accepted is over, at most so long."""
    watch = Stopwatch()
    open_before = -1
    while (now := watch.seconds()) < patience:
        cluster.check()
        try:
            left = _open(engine)
        except OperationalError:
            continue
        if left == 0 and load.is_idle():
            say(f"settled after {now:.1f} s")
            return
        if left != open_before:
            say(f"{left} searches and datasets are not over")
            open_before = left
        time.sleep(0.2)
    say(f"not settled after {patience:g} s")


def _open(engine: Engine) -> int:
    with transaction(engine) as session:
        searches = session.scalar(
            select(func.count()).select_from(SearchRow).where(SearchRow.state.not_in(states.terminal(states.SEARCH)))
        )
        datasets = session.scalar(
            select(func.count()).select_from(DatasetRow).where(DatasetRow.state.not_in(states.terminal(states.DATASET)))
        )
    return (searches or 0) + (datasets or 0)


def say(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
