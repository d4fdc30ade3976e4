"""Inputs of `python -m paretofit.search`: a specification in YAML, a dataset, and trained weights to start from."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import ValidationError

from paretofit.models.checkpoint import read_record
from paretofit.models.header import CheckpointError, file_sha256
from paretofit.search.contracts.dataset import DatasetProfile, DatasetSpec
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.start import Start, StartRecord

M = TypeVar("M", DatasetSpec, SearchSpec)
_EXAMPLE: Final = "`dataset: {source: {kind: builtin, name: fashion_mnist, subset: 2000}}` or `dataset: FOLDER`"


class CommandError(ValueError):
    """Invalid input by the user; the message says what to change."""


def read_spec(path: Path) -> dict[str, Any]:
    """A search as YAML, with `dataset` in place of `dataset_id`. Raises CommandError."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not YAML: {error}; correct it") from error
    if not isinstance(body, dict):
        raise CommandError(f"{path} is incomplete: write a mapping with `dataset` and `method`")
    if "dataset_id" in body:
        raise CommandError(f"{path}: dataset_id: needs a service; use `dataset` instead, such as {_EXAMPLE}")
    body.setdefault("name", path.stem)
    return body


def local_dataset(given: object, beside: Path, folder: Path) -> Path:
    """The dataset directory that a specification refers to, created unless it exists. Raises CommandError."""
    if isinstance(given, str):
        return beside / given
    if not isinstance(given, dict):
        raise CommandError(f"dataset: is missing: add {_EXAMPLE}")
    spec = _validated(DatasetSpec, {"name": "local"} | given, "dataset")
    if spec.source.kind == "upload":
        raise CommandError(f"dataset: source: kind upload needs a service; use {_EXAMPLE}")
    described = spec.model_dump_json()
    note = folder.with_name("dataset.spec.json")
    if note.exists() and note.read_text(encoding="utf-8") != described:
        raise CommandError(f"{folder} contains another dataset than the specification: choose another --out")
    if not note.exists():
        _ingest(spec, folder)
        note.write_text(described, encoding="utf-8")
    return folder


def evaluated_dataset(given: str, split: str, scratch: Path) -> Path:
    """The dataset directory that a checkpoint is measured on. Raises CommandError."""
    if Path(given).is_dir():
        return Path(given)
    if given != "fashion_mnist":
        raise CommandError(
            f"--dataset: {given!r} is neither a folder nor a built-in dataset; use fashion_mnist or a dataset directory"
        )
    if split != "report":
        raise CommandError(
            f"--split {split}: its images depend on how the dataset was created; give that dataset directory by "
            "--dataset"
        )
    # The report split is the whole test set, independent of the subset.
    source = {"kind": "builtin", "name": given, "subset": 100}
    folder = scratch / "dataset"
    _ingest(DatasetSpec.model_validate({"name": given, "source": source}), folder)
    return folder


def _ingest(spec: DatasetSpec, folder: Path) -> None:
    """Create a dataset with the ingestion process of the service. Raises CommandError with its reasons."""
    with tempfile.TemporaryDirectory() as scratch:
        request = Path(scratch) / "request.json"
        request.write_text(json.dumps({"spec": spec.model_dump(mode="json")}), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "paretofit.search.data.ingest",
            "--request",
            str(request),
            "--out",
            str(folder),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise CommandError(
            f"the dataset could not be created (exit code {ended.returncode}); correct the "
            f"error:\n{ended.stderr[-2000:]}"
        )
    answer = json.loads(ended.stdout)
    if answer["state"] != "ready":
        raise CommandError("; ".join(f"dataset: {error['detail']}" for error in answer["errors"]))


def resolve(body: dict[str, Any], dataset: Path, path: Path) -> ResolvedSpec:
    """The specification resolved for its dataset and its start. Raises CommandError."""
    from paretofit.search.data.store import Dataset

    profile: DatasetProfile = Dataset.open(dataset).profile
    spec = _validated(SearchSpec, body | {"dataset_id": "local"}, str(path))
    if spec.method.start is None:
        return spec.resolve(profile)
    if spec.method.start.file is None:
        raise CommandError(f"{path}: method.start: needs a service, except for files: use {{file: PATH}}")
    file = path.parent / spec.method.start.file
    method = spec.method.model_copy(update={"start": Start(file=str(file))})
    place = f"{path}: method.start.file: {file}"
    try:
        start = StartRecord.of(read_record(file), file_sha256(file))
    except OSError as error:
        raise CommandError(f"{place}: {error.strerror}; give the path of a file, relative to {path.name}") from error
    except CheckpointError as error:
        raise CommandError(
            f"{place}: {error}. `python -m paretofit.search weights {file} --out FILE` converts published weights"
        ) from error
    except ValueError as error:
        raise CommandError(f"{place}: {error}") from error
    return spec.model_copy(update={"method": method}).resolve(profile, start)


def _validated(model: type[M], body: dict[str, Any], place: str) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
        raise CommandError(f"{place}: " + "; ".join(problems)) from error
