"""Exports a point to a file of another format and compares it with PyTorch, in a separate process: `python -m
paretofit.search.export --request R --out FILE`.

Prints one JSON line: {"state": "ready", "parity"} or {"state": "failed", "error": {"code", "detail", ...}}, with exit
code 0 for both. The codes: `parity` (the file computes something else; the figures are in `parity`), `conversion` (it
cannot be written or run), `source` (the stored weights are not the point's, or not finite), `not_installed`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network
from paretofit.models.trace import Size
from paretofit.search.contracts.point import Format
from paretofit.search.export.formats import Precision
from paretofit.search.export.network import Exportable, exportable
from paretofit.search.export.parity import ParityError, compare
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write
from paretofit.search.registry import methods


class ExportRequest(BaseModel):
    """`weights` is a checkpoint, or the supernet from which a point of this `method` and `record` is extracted; `size`
    is the input's height and width in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Path
    from_supernet: bool
    method: str
    record: dict[str, Any]
    format: Format
    precision: Precision
    size: tuple[int, int]


def export(request: ExportRequest, out: Path) -> dict[str, Any]:
    """Write the file `out`, unless the result's state is `failed`."""
    try:
        source = _source(request)
    except (ValueError, LookupError) as error:
        return _failed("source", str(error))
    try:
        write(source, request.format, out, request.precision)
        session = open_session(out, request.format, torch.get_num_threads())
        parity = compare(source, session, request.precision)
    except ParityError as error:
        return _failed("parity", str(error), parity=error.parity.to_json())
    except ImportError as error:
        return _failed("not_installed", f"{error}: run `pip install 'paretofit[export]'` on the worker")
    except (ValueError, RuntimeError) as error:
        return _failed("conversion", str(error))
    return {"state": "ready", "parity": parity.to_json()}


def _source(request: ExportRequest) -> Exportable:
    if not request.from_supernet:
        network = checkpoint.load(request.weights)
        assert network.record is not None
        return exportable(network, request.size, network.record)
    if request.method not in methods():
        raise LookupError(
            f"method {request.method!r}, which trained these weights, is not installed: add it to PARETOFIT_METHODS"
        )
    architecture = Architecture.from_json(request.record["architecture"])
    # The statistics belong to the size that the point was measured at.
    measured: tuple[int, int] = tuple(request.record["input_size"])
    extract: Callable[[Path, Architecture, Size], Network] = methods()[request.method].load("supernet", "extract")
    network = extract(request.weights, architecture, measured)
    return exportable(network, request.size, request.record)


def _failed(code: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"state": "failed", "error": {"code": code, "detail": detail, **more}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paretofit.search.export", description=__doc__)
    parser.add_argument("--request", type=Path, required=True, help="JSON file, see ExportRequest")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    request = ExportRequest.model_validate_json(arguments.request.read_bytes())
    sys.stdout.write(json.dumps(export(request, arguments.out)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
