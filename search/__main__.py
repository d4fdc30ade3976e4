"""Searches and evaluations without a service.

`python -m paretofit.search run SPEC.yaml --out DIR` runs a search. After Ctrl-C it keeps a checkpoint, and the same
command resumes it. With `--ranks N`, or under torchrun, it trains on N processes.

`python -m paretofit.search evaluate CHECKPOINT --dataset fashion_mnist|DIR` measures a checkpoint again under its
recorded conditions.

`python -m paretofit.search weights NAME_OR_FILE --out FILE` creates a file of trained weights that a search can start
from.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from paretofit.core.cpus import available_cpus
from paretofit.core.settings import get_settings
from paretofit.models.pretrained.sources import SOURCES
from paretofit.search import registry, run_command
from paretofit.search.inputs import CommandError, evaluated_dataset
from paretofit.search.run_command import STDERR, fail, start_torchrun

DIFFERS: Final = 3
"""Exit code of `evaluate` when the accuracy differs from the reported one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 done, 1 failed, 2 invalid arguments, `DIFFERS`, `INTERRUPTED`."""
    parser = argparse.ArgumentParser(
        prog="python -m paretofit.search", description="Search and evaluate without a service."
    )
    commands = parser.add_subparsers(required=True)

    weights = commands.add_parser("weights", help="create a weights file to start from, without a service")
    weights.add_argument(
        "weights", metavar="NAME_OR_FILE", help=f"a named source ({', '.join(SOURCES)}) or a file of weights"
    )
    weights.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the weights file to write (.safetensors)"
    )
    weights.add_argument(
        "--source", metavar="NAME", help="the named source that published the file, where one file provides several"
    )
    weights.add_argument("--licence", help="license of the file's weights")
    weights.add_argument(
        "--allow-non-commercial",
        action="store_true",
        help="accept weights for non-commercial use only; you confirm that your use is permitted",
    )
    for statistic in ("mean", "std"):
        weights.add_argument(
            f"--{statistic}",
            type=_numbers,
            metavar="R,G,B",
            help="per channel, for values from 0 to 1, as the file's network expects",
        )
    weights.set_defaults(command=_weights)

    run = commands.add_parser("run", help="run a search in this process")
    run.add_argument(
        "spec", type=Path, metavar="SPEC.yaml", help="the search in YAML, with `dataset` in place of `dataset_id`"
    )
    run.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the search; resumes the search that it contains",
    )
    run.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    run.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="train on N processes on this machine, started by torchrun; with --device cuda each uses its own GPU",
    )
    run.add_argument("--json", action="store_true", help="print the front as one JSON line")
    run.set_defaults(command=run_command.run)

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint again under its recorded conditions")
    evaluate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    evaluate.add_argument(
        "--dataset", required=True, metavar="fashion_mnist|DIR", help="a built-in dataset, or a dataset directory"
    )
    evaluate.add_argument("--split", choices=("report", "selection", "train"), default="report")
    evaluate.add_argument("--json", action="store_true", help="print one JSON line: top1, reported, equal, images")
    evaluate.set_defaults(command=_evaluate)

    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(words)
    ranks = 1 if "WORLD_SIZE" in os.environ else getattr(options, "ranks", 1)
    # Before torch is imported. Threads of an operation wait for each other by spinning, so one core stays free on a
    # busy machine.
    threads = available_cpus() // ranks if ranks > 1 else available_cpus() - 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
    try:
        registry.setup()
        if ranks != 1:
            start_torchrun(options, words)
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        return fail(error)
    return code


def _weights(options: argparse.Namespace) -> int:
    from paretofit.models.pretrained.convert import convert
    from paretofit.models.pretrained.fetch import fetch, identify

    path, cache = Path(options.weights), get_settings().home / "cache" / "weights"
    is_file = path.exists() or options.weights not in SOURCES
    if options.source is not None and not is_file:
        raise CommandError(f"--source: applies to a file, and {path} is not a file: leave it out")
    published = identify(path, options.source) if is_file else SOURCES[options.weights]
    described = {name: value for name in ("licence", "mean", "std") if (value := getattr(options, name)) is not None}
    if published is None:
        record = convert(path, options.out, allow_non_commercial=options.allow_non_commercial, **described)
    elif described:
        field = next(iter(described))
        raise CommandError(f"--{field}: the source {published.name} provides its own: leave it out")
    else:
        record = fetch(published.name, options.out, cache=cache, file=path if is_file else None)
    sys.stdout.write(f"{options.out}: {record.family} x {record.width:g}, {record.licence}\n")
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _evaluate(options: argparse.Namespace) -> int:
    from paretofit.search.data.store import Dataset
    from paretofit.search.evaluation import reevaluate

    with tempfile.TemporaryDirectory() as scratch:
        folder = evaluated_dataset(options.dataset, options.split, Path(scratch))
        found = reevaluate(options.checkpoint, Dataset.open(folder), options.split)
    message = f"top1 {found.top1:.6f} on the {found.images} images of the {found.split} split"
    if found.reported is None:
        message += "; no accuracy was reported for these images on this kind of device"
    elif found.equal:
        message += ", exactly as reported"
    else:
        message += f", but {found.reported:.6f} was reported"
    if options.json:
        result = {"top1": found.top1, "reported": found.reported, "equal": found.equal, "images": found.images}
        STDERR.print(message, markup=False, soft_wrap=True)
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write(message + "\n")
    return DIFFERS if found.equal is False else 0


if __name__ == "__main__":
    status = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads of a finished process group occasionally abort the interpreter at exit, which torchrun reports as a
        # failure.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
