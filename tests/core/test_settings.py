from __future__ import annotations

import pytest

from paretofit.core.settings import Settings
from paretofit.launch.environment import environment


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 86_400),
        ({"PARETOFIT_GC_RETENTION_SECONDS": "60"}, 60),
        ({"PARETOFIT_ORPHAN_SECONDS": "60"}, 60),
        ({"PARETOFIT_ORPHAN_SECONDS": "60", "PARETOFIT_GC_RETENTION_SECONDS": "90"}, 90),
    ],
)
def test_gc_retention_has_a_deprecated_alias(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: float
) -> None:
    for name in ("PARETOFIT_GC_RETENTION_SECONDS", "PARETOFIT_ORPHAN_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.gc_retention_seconds == expected
    assert environment(settings)["PARETOFIT_GC_RETENTION_SECONDS"] == str(settings.gc_retention_seconds)
