from __future__ import annotations

import pytest

from paretofit.search.contracts.failures import code_of, describe, summary


class NotLearningError(ValueError):
    code = "not_learning"


class WorseError(NotLearningError):
    """Inherits its code."""


class NumberedError(Exception):
    code = "e3q8"


class ExitError(Exception):
    code = 3


class InstanceError(Exception):
    def __init__(self) -> None:
        super().__init__("no")
        self.code = "of_an_instance"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotLearningError("flat"), "not_learning"),
        (WorseError("flat"), "not_learning"),
        (NumberedError(), None),
        (ExitError(), None),
        (InstanceError(), None),
        (ValueError("code"), None),
    ],
)
def test_a_code_is_a_word_of_the_class(error: Exception, code: str | None) -> None:
    assert code_of(error) == code
    assert describe(error)["code"] == (code or "error")


def test_an_error_is_described() -> None:
    try:
        raise NotLearningError("14 % after 200 steps")
    except NotLearningError as error:
        found = describe(error)
    assert {name: found[name] for name in ("code", "detail", "exception")} == {
        "code": "not_learning",
        "detail": "14 % after 200 steps",
        "exception": "NotLearningError",
    }
    assert found["traceback"][-1].endswith("NotLearningError: 14 % after 200 steps")
    assert summary(found) == "14 % after 200 steps (not_learning)"
    assert describe(NotLearningError())["detail"] == "NotLearningError"
