"""Converts an uploaded file or a named source to a weights file, in a separate process: `python -m
paretofit.search.weights --request R --out DIR`.

Writes the file into DIR and one JSON line to stdout: {"state": "ready", "record", "file"} or {"state": "rejected",
"error": {"code", "detail"}}, with exit code 0 for both. A file is read in the sandbox of
`paretofit.search.data.sandbox`. A named source is downloaded and verified first, with the network; afterwards the
process has no network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from paretofit.core.http import Outbound
from paretofit.core.settings import get_settings
from paretofit.models.checkpoint import CheckpointError
from paretofit.models.pretrained.convert import convert as convert_file
from paretofit.models.pretrained.fetch import convert_original, fetch_original
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from paretofit.models.pretrained.sources import known
from paretofit.search.contracts.weights import MAX_FILE_BYTES, NamedSource, WeightsSpec
from paretofit.search.data import sandbox
from paretofit.search.data.limits import GIB, MIB, IngestLimits

FILE: Final = "weights.safetensors"
_LENGTH: Final = 8
_MAX_DETAIL: Final = 2000
"""Maximum length of a reason in characters: messages quote names from the file, which can have any length."""
_LIMITS: Final = IngestLimits(max_memory_bytes=8 * GIB, max_cpu_seconds=1800)


class ConversionRequest(BaseModel):
    """`file` is the uploaded one; `cache` is the folder for downloads of named sources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: WeightsSpec
    file: Path | None = None
    cache: Path


class RejectedError(Exception):
    """The weights cannot be used. `code` is stable for programs; `detail` states the problem and what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]}..."


def convert(request: ConversionRequest, out: Path) -> WeightsRecord:
    """Write the file `FILE` into the folder `out`. The process is confined as soon as the file to read is complete.
    Raises RejectedError."""
    if isinstance(request.spec.source, NamedSource):
        return _convert_source(request.spec.source.name, request.cache, out)
    if request.file is None:
        raise RejectedError("no_file", "the weights file is missing: upload it")
    _confine(request.file, out)
    return _convert_upload(request.file, request.spec, out / FILE)


def _convert_source(name: str, cache: Path, out: Path) -> WeightsRecord:
    try:
        source = known(name)
        original = fetch_original(source, cache=cache, outbound=Outbound.to(get_settings().outbound_networks))
        _confine(original, out)
        return convert_original(source, original, out / FILE)
    except (PretrainedError, CheckpointError, SafetensorError) as error:
        raise RejectedError("source_failed", str(error)) from error


def _confine(file: Path, out: Path) -> None:
    """Confine this process to reading one file and writing one folder, without network."""
    # The first conversion of a half-precision number reads /proc/cpuinfo, which the sandbox hides.
    torch.zeros(1, dtype=torch.float16).float()
    sandbox.confine(written=out, read=file)


def _convert_upload(file: Path, spec: WeightsSpec, target: Path) -> WeightsRecord:
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise RejectedError(
            "too_large", f"the file has {size / MIB:.0f} MiB; upload at most {MAX_FILE_BYTES / MIB:.0f} MiB"
        )
    # Other formats would be unpickled.
    with file.open("rb") as opened:
        head = opened.read(_LENGTH + 1)
    if head[_LENGTH:] != b"{":
        raise RejectedError("not_safetensors", "the file is not safetensors: `paretofit weights add FILE` converts it")
    if int.from_bytes(head[:_LENGTH], "little") > size - _LENGTH:
        raise RejectedError("not_usable", "the file is truncated: its header is incomplete; upload it again")
    try:
        return convert_file(
            file,
            target,
            mean=spec.mean,
            std=spec.std,
            licence=spec.licence,
            source_name=spec.name,
            class_names=spec.class_names,
            allow_non_commercial=spec.allow_non_commercial,
        )
    except (PretrainedError, CheckpointError, SafetensorError) as error:
        raise RejectedError("not_usable", str(error)) from error


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paretofit.search.weights", description=__doc__)
    parser.add_argument("--request", type=Path, required=True, help="JSON file: spec, file, cache")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights file")
    arguments = parser.parse_args()
    try:
        request = ConversionRequest.model_validate_json(arguments.request.read_bytes())
    except ValidationError as error:
        sys.stderr.write(f"{arguments.request}: {error}\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    sandbox.limit(_LIMITS)
    answer: dict[str, Any]
    try:
        record = convert(request, arguments.out)
        answer = {"state": "ready", "record": record.model_dump(mode="json"), "file": FILE}
    except RejectedError as rejected:
        answer = {"state": "rejected", "error": {"code": rejected.code, "detail": rejected.detail}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
