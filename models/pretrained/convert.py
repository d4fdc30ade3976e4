"""Converts a file of published weights to a weights file: Paretofit's names, float32, and a record.

PyTorch files are only read with `weights_only=True`; even so, do it on the user's machine or in a sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.header import file_sha256
from paretofit.models.pretrained.layouts import OWN, Match, read_weights_record, recognize
from paretofit.models.pretrained.mapping import map_tensors
from paretofit.models.pretrained.names import IMAGENET
from paretofit.models.pretrained.reading import is_safetensors, read_pytorch_file, read_safetensors_file
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord, licence_of_point
from paretofit.models.pretrained.sources import check_commercial_use

__all__ = ["PretrainedError", "convert", "convert_tensors"]

UNKNOWN: Final = "not stated"
_BGR_FILE: Final = re.compile(r"(?<![a-z])(bgr|caffe2?|detectron2?)(?![a-z])", re.IGNORECASE)


def convert(
    source: Path,
    target: Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    licence: str | None = None,
    source_name: str | None = None,
    class_names: Sequence[str] | None = None,
    allow_non_commercial: bool = False,
) -> WeightsRecord:
    """Read a safetensors file or a PyTorch state dict and write it as a weights file.

    `mean` and `std` normalize pixels in 0..1; they are required where the layout does not determine them. `source_name`
    states the file's origin (unset: its name). Raises PretrainedError if the file cannot be read or is not exactly one
    known network, or if its name or license restricts it to non-commercial use (unless `allow_non_commercial`); OSError
    for a missing file.
    """
    _refuse_bgr(source.name)
    if not allow_non_commercial:
        check_commercial_use(source.name)
    sha256 = file_sha256(source)
    notes: list[str] = []
    record: Mapping[str, Any] | None = None
    if is_safetensors(source):
        tensors, record = read_safetensors_file(source)
    else:
        tensors, notes = read_pytorch_file(source)
    return convert_tensors(
        tensors,
        target,
        sha256=sha256,
        source_name=source_name or source.name,
        mean=mean,
        std=std,
        licence=licence,
        class_names=class_names,
        allow_non_commercial=allow_non_commercial,
        record=record,
        notes=notes,
    )


def convert_tensors(
    tensors: Mapping[str, Tensor],
    target: Path,
    *,
    sha256: str,
    source_name: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    licence: str | None = None,
    class_names: Sequence[str] | None = None,
    allow_non_commercial: bool = False,
    record: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> WeightsRecord:
    """Write tensors of any known layout as a weights file; like `convert`, for files that were read by other means.

    `sha256` is the digest of the original file, `record` that of Paretofit's own files, `notes` are added to the new
    record's. Raises PretrainedError.
    """
    _refuse_bgr(source_name)
    match = recognize({name: tuple(tensor.shape) for name, tensor in tensors.items()}, record)
    found = _record(
        match,
        mean=mean,
        std=std,
        licence=licence,
        class_names=class_names,
        sha256=sha256,
        source_name=source_name,
        own=record or {},
        notes=notes,
    )
    if not allow_non_commercial:
        check_commercial_use(source_name, found.source, found.licence)
    checkpoint.write(target, map_tensors(match, tensors), found.model_dump(mode="json"))
    return found


def _record(
    match: Match,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    licence: str | None,
    class_names: Sequence[str] | None,
    sha256: str,
    source_name: str,
    own: Mapping[str, Any],
    notes: Sequence[str],
) -> WeightsRecord:
    """Properties of the new file: the given ones, else those in the file's own record, else the layout's."""
    known: dict[str, Any] = {}
    if match.layout == OWN:
        known = read_weights_record(own).model_dump() if own.get("kind") == "weights" else _of_point(own)
    elif match.rules is not None and len(match.rules.normalization[0]) == match.channels:
        known = dict(zip(("mean", "std"), match.rules.normalization, strict=True))
    given = {"mean": mean, "std": std, "licence": licence, "class_names": class_names}
    fields = {"licence": UNKNOWN, "source": source_name, "sha256": sha256, "layout": match.layout} | known
    fields |= {name: value for name, value in given.items() if value is not None}
    for name in ("mean", "std"):
        if fields.get(name) is None:
            raise PretrainedError(
                f"{name}: the file does not say how its {match.channels}-channel images were normalized: give mean "
                "and std of pixels in 0..1, as in its training"
            )
    try:
        found = WeightsRecord(
            **fields
            | {
                "family": match.family,
                "width": match.form.width,
                "groups": match.form.groups,
                "slimmable": match.form.slimmable,
                "keep_last_channels": match.form.keep_last_channels,
                "channels": match.channels,
                "nominal": match.nominal,
                "classes": match.classes,
                "dropped": (*known.get("dropped", ()), *match.dropped),
                "dropped_count": known.get("dropped_count", 0) + len(match.dropped),
                "notes": (*known.get("notes", ()), *match.notes, *notes),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise PretrainedError(f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}") from error
    for name in ("mean", "std"):
        _check_normalization(name, getattr(found, name))
    return found


def _of_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """Properties in the checkpoint of a point."""
    preprocessing = point.get("preprocessing")
    preprocessing = preprocessing if isinstance(preprocessing, Mapping) else {}
    return {
        "mean": preprocessing.get("mean"),
        "std": preprocessing.get("std"),
        "class_names": point.get("classes") or None,
        "licence": licence_of_point(point),
    }


def _refuse_bgr(name: str) -> None:
    if _BGR_FILE.search(name):
        raise PretrainedError(
            f"{name} seems to be for BGR pixels or for Caffe's strides, which Paretofit does not support: use "
            "torchvision's or timm's weights. If it is neither, rename the file"
        )


def _check_normalization(name: str, values: Sequence[float]) -> None:
    if any(value > 1 for value in values):
        raise PretrainedError(f"{name} must be for pixels in 0..1, not {list(values)}: divide it by 255")
    if tuple(values) == tuple(reversed(IMAGENET[name == "std"])):
        raise PretrainedError(
            f"{name} is ImageNet's in the order blue, green, red, but images are RGB. If the weights are for RGB, "
            "reverse it; weights for BGR cannot be used"
        )
