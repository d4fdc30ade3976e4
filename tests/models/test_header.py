"""The digest of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from paretofit.models.header import file_sha256


def test_digest_covers_the_complete_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")
