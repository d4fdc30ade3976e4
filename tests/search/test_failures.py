from __future__ import annotations

import pytest

from paretofit.search.contracts.failures import code_of, describe, summary


class NotLearningError(ValueError):
    code = "not_learning"


class WorseError(NotLearningError):
    """Inherits the code of its base class."""


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
def test_error_code_is_a_class_level_identifier(error: Exception, code: str | None) -> None:
    assert code_of(error) == code
    assert describe(error)["code"] == (code or "error")


def test_error_description_has_code_and_detail() -> None:
    try:
        raise NotLearningError("14 % after 200 steps")
    except NotLearningError as error:
        description = describe(error)
    assert {name: description[name] for name in ("code", "detail", "exception")} == {
        "code": "not_learning",
        "detail": "14 % after 200 steps",
        "exception": "NotLearningError",
    }
    assert description["traceback"][-1].endswith("NotLearningError: 14 % after 200 steps")
    assert summary(description) == "14 % after 200 steps (not_learning)"
    assert describe(NotLearningError())["detail"] == "NotLearningError"
