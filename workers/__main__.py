"""A worker of one queue: `python -m paretofit.workers light`, `python -m paretofit.workers train --device cpu|cuda:0
--threads N`."""

from __future__ import annotations

import argparse
import os
import platform
import re
import secrets
import sys

from paretofit.core.cpus import available_cpus
from paretofit.core.settings import get_settings
from paretofit.search import registry
from paretofit.workers import heartbeat, runtime, shutdown_signal
from paretofit.workers.app import LIGHT, TRAINING, app
from paretofit.workers.runtime import Slot

CONNECTED = (heartbeat, shutdown_signal)
"""Modules that handle Celery signals."""


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise argparse.ArgumentTypeError(f"invalid device {value!r}: use cpu, cuda or cuda:N")
    return value


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m paretofit.workers", description="Serve one queue until SIGTERM.")
    queues = parser.add_subparsers(dest="queue", required=True)
    light = queues.add_parser(LIGHT, help="planning, dataset validation and exports")
    light.add_argument("--processes", type=int, default=2, help="number of processes (default 2)")
    train = queues.add_parser(TRAINING, help="trials, one at a time, on one device")
    train.add_argument("--device", type=_device, default="cpu", help="cpu or cuda:N (default cpu)")
    spare = max(1, available_cpus() - 1)  # Oversubscribed threads slow a training tenfold.
    train.add_argument(
        "--threads", type=int, default=spare, help="CPU threads (default: one less than the available cores)"
    )
    return parser.parse_args(arguments)


def main() -> None:
    arguments = _parse(sys.argv[1:])
    is_light = arguments.queue == LIGHT
    name = f"{arguments.queue}-{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}"
    registry.setup()
    runtime.bind(
        Slot(
            queue=arguments.queue,
            device="cpu" if is_light else arguments.device,
            threads=1 if is_light else arguments.threads,
            name=name,
        ),
        processes=arguments.processes if is_light else 1,
    )
    app.worker_main(
        [
            *("worker", "--queues", arguments.queue, "--hostname", f"{name}@%h"),
            *("--pool", "prefork", "--concurrency", str(arguments.processes if is_light else 1)),
            *("--without-mingle", "--without-gossip", "--without-heartbeat"),
            *("--loglevel", get_settings().log_level),
        ]
    )


if __name__ == "__main__":
    main()
