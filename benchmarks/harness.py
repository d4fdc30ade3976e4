"""Shared by all benchmarks: interleaved timing, the machine's description, claims, and the record in `docs/`.

A benchmark is a module with `main() -> Report`. `python -m benchmarks.NAME` prints its claims and then one line of
JSON. `--record` also writes the figures to `docs/benchmarks.md`, under the benchmark's own heading.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from paretofit.core.cpus import available_cpus
from paretofit.core.formatting import count
from paretofit.search import registry

RECORD = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Claim:
    """A measured value and its goal, both in the unit that the name ends with (`..._seconds`)."""

    name: str
    value: float
    goal: float
    better: Literal["lower", "higher"]

    @property
    def holds(self) -> bool:
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a benchmark: its claims, and further details for the JSON line."""

    benchmark: str
    claims: tuple[Claim, ...]
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        claims = [{**asdict(c), "value": round(c.value, 4), "holds": c.holds} for c in self.claims]
        return {"benchmark": self.benchmark, "machine": machine(), "claims": claims, **self.details}


def machine() -> dict[str, Any]:
    """Processor, available cores, memory in GiB, operating system, Python and (if imported) torch."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    torch = sys.modules.get("torch")
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": available_cpus(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__ if torch else None,
    }


def interleaved(cases: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Time each case `repeats` times in turn (A B A B ...), so that drift affects all cases. Returns seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warmup + repeats):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each case."""
    return {name: median(values) for name, values in seconds.items()}


def run(main: Callable[[], Report]) -> None:
    """Run a benchmark as a command: print its claims and JSON line; `--record` writes them to `docs/`.

    Exits with 1 if a claim is missed.
    """
    _execute(main, _parser(main).parse_args())


def run_on_data(main: Callable[[Path | None], Report]) -> None:
    """Like `run`, for a benchmark on a user's images, given by `--data ARCHIVE`."""
    parser = _parser(main)
    parser.add_argument("--data", type=Path, metavar="ARCHIVE", help="archive of the images; downloaded by default")
    arguments = parser.parse_args()
    _execute(partial(main, arguments.data), arguments)


def _parser(main: Callable[..., Report]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    parser.add_argument("--record", action="store_true", help=f"write the figures to {RECORD.name}")
    return parser


def _execute(main: Callable[[], Report], arguments: argparse.Namespace) -> None:
    registry.setup()
    report = main()
    for claim in report.claims:
        sign = "<=" if claim.better == "lower" else ">="
        verdict = "holds" if claim.holds else "MISSED"
        sys.stderr.write(f"{claim.name:50} {claim.value:10.3f}  (goal {sign} {claim.goal:g}) {verdict}\n")
    if arguments.record:
        record(report)
    sys.stdout.write(json.dumps(report.as_dict()) + "\n")
    sys.exit(0 if all(claim.holds for claim in report.claims) else 1)


def record(report: Report) -> None:
    """Replace the section of the benchmark in `docs/benchmarks.md`, or append it."""
    on = report.as_dict()["machine"]
    torch = f", torch {on['torch']}" if on["torch"] else ""
    where = f"{on['processor']}, {count(on['cores'], 'core')}, {on['memory_gib']} GiB, Python {on['python']}{torch}"
    lines = [
        f"## {report.benchmark}",
        "",
        f"`python -m benchmarks.{report.benchmark}`, {datetime.now(UTC):%Y-%m-%d}, {where}",
        "",
        "| claim | measured | goal | holds |",
        "|---|---|---|---|",
    ]
    for claim in report.claims:
        sign = "<=" if claim.better == "lower" else ">="
        lines.append(f"| {claim.name} | {claim.value:.3f} | {sign} {claim.goal:g} | {'yes' if claim.holds else 'no'} |")
    section = "\n".join(lines) + "\n"
    text = RECORD.read_text() if RECORD.exists() else "# Benchmarks\n"
    others = re.sub(rf"\n## {re.escape(report.benchmark)}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
    RECORD.write_text(others.rstrip("\n") + "\n\n" + section)
