from __future__ import annotations

import dataclasses

import pytest

from paretofit.search.registry import methods


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches by `mutualnet` are planned by `tests.methods.scripted` according to their labels."""
    scripted = dataclasses.replace(methods()["mutualnet"], package="tests.methods.scripted")
    monkeypatch.setitem(methods(), "mutualnet", scripted)
