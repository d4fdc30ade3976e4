"""Package members downloaded by the real pip from an index in a folder."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from paretofit.models.pretrained import packages
from paretofit.models.pretrained.packages import member
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import PackageFile

MEMBER = b"weights" * 1000
BY_HAND = "on another machine, download it and run `paretofit weights add FILE --source sample`"
SETUP = """\
open({trace!r}, "w").close()
from setuptools import setup
setup(name="paretofit-sample", version="1.2")
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the only package that pip can find, isolated from this machine's pip configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index" / "paretofit-sample"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PIP_INDEX_URL", folder.parent.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def download(package: PackageFile) -> bytes:
    return packages.download(package, BY_HAND)


def published(index: Path, file: str, archive: bytes, member: str) -> PackageFile:
    (index / file).write_bytes(archive)
    (index / "index.html").write_text(f'<a href="{file}">{file}</a>')
    return PackageFile(
        requirement="paretofit-sample==1.2",
        kind="wheel" if file.endswith(".whl") else "sdist",
        file=file,
        sha256=hashlib.sha256(archive).hexdigest(),
        member=member,
        member_sha256=hashlib.sha256(MEMBER).hexdigest(),
    )


def wheel(index: Path) -> PackageFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("paretofit_sample/weights.pt", MEMBER)
        info = "paretofit_sample-1.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: paretofit-sample\nVersion: 1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return published(index, "paretofit_sample-1.2-py3-none-any.whl", buffer.getvalue(), "paretofit_sample/weights.pt")


def sdist(index: Path, trace: Path) -> PackageFile:
    files = {
        "setup.py": SETUP.format(trace=str(trace)).encode(),
        "PKG-INFO": b"Metadata-Version: 1.1\nName: paretofit-sample\nVersion: 1.2\n",
        "weights.pb": MEMBER,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"paretofit-sample-1.2/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return published(index, "paretofit-sample-1.2.tar.gz", buffer.getvalue(), "paretofit-sample-1.2/weights.pb")


def test_wheel_member_is_extracted(index: Path) -> None:
    assert download(wheel(index)) == MEMBER


def test_source_distribution_code_is_not_executed(index: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    assert download(sdist(index, trace)) == MEMBER
    assert not trace.exists()


def test_wrong_hash_is_rejected_by_pip(index: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    package = sdist(index, trace)
    (index / package.file).write_bytes((index / package.file).read_bytes() + b"\0")
    with pytest.raises(PretrainedError, match="DO NOT MATCH THE HASHES"):
        download(package)
    assert not trace.exists()


def test_missing_package_error_suggests_a_remedy(index: Path) -> None:
    package = wheel(index)
    (index / "index.html").write_text("")
    with pytest.raises(PretrainedError) as error:
        download(package)
    for message in (
        "No matching distribution found for paretofit-sample==1.2",
        f"If this machine reaches no package index: {BY_HAND}.",
    ):
        assert message in str(error.value)


def test_archive_and_member_are_verified(index: Path, tmp_path: Path) -> None:
    for package in (wheel(index), sdist(index, tmp_path / "it ran")):
        archive = index / package.file
        assert member(package, archive) == MEMBER
        for changes, message in (
            ({"sha256": "0" * 64}, f"{package.file} has SHA-256"),
            ({"member": "paretofit/missing.pt"}, "does not contain paretofit/missing.pt"),
            ({"member_sha256": "0" * 64}, "its SHA-256 differs"),
        ):
            fields = {name: getattr(package, name) for name in package.__dataclass_fields__} | changes
            with pytest.raises(PretrainedError, match=message):
                member(PackageFile(**fields), archive)
