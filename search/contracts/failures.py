"""How a trial's failure is described. Torch-free.

An exception class names its failure by a class attribute `code`, such as `code = "not_learning"`. A trial that raises
it ends as `failed` with that code and is not retried. `paretofit.api.schemas.trials.ERROR_CODES` describes each code.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

_CODE: Final = re.compile(r"[a-z]+(_[a-z]+)*")
_TRACEBACK_LINES: Final = 40


def code_of(error: BaseException) -> str | None:
    """The failure code of an exception's class, or None. Codes are lower-case words, so error numbers of other
    libraries are ignored."""
    code = getattr(type(error), "code", None)
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def describe(error: BaseException) -> dict[str, Any]:
    """A trial's error as JSON: {code, detail, exception, traceback}; the code is "error" for a class without its
    own."""
    return {
        "code": code_of(error) or "error",
        "detail": str(error) or type(error).__name__,
        "exception": type(error).__qualname__,
        "traceback": "".join(traceback.format_exception(error)).splitlines()[-_TRACEBACK_LINES:],
    }


def summary(error: Mapping[str, Any]) -> str:
    """An error {code, detail} as one line."""
    return f"{error['detail']} ({error['code']})"
