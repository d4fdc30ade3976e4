"""Exit codes, and which failure has which."""

from __future__ import annotations

from enum import IntEnum

from paretofit.client.errors import ApiError, NoSuchError, ParetofitError, UnreachableError, UsageError


class Exit(IntEnum):
    """What the command line's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    FORBIDDEN = 6
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the search, the dataset, the weights or the command failed",
    Exit.USAGE: "wrong usage, or a specification that is not valid",
    Exit.NOT_FOUND: "no such search, dataset, weights, trial or point",
    Exit.UNREACHABLE: "the service does not answer",
    Exit.CONFLICT: "no network can meet the constraints, or the state does not allow it",
    Exit.FORBIDDEN: "the API key is missing or does not allow it",
    Exit.INTERRUPTED: "interrupted",
}

_BY_STATUS = {
    400: Exit.USAGE,
    401: Exit.FORBIDDEN,
    403: Exit.FORBIDDEN,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    413: Exit.USAGE,
    415: Exit.USAGE,
    422: Exit.USAGE,
    429: Exit.UNREACHABLE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}


def exit_code(failure: ParetofitError) -> Exit:
    """The exit code of a failure."""
    match failure:
        case UnreachableError():
            return Exit.UNREACHABLE
        case UsageError():
            return Exit.USAGE
        case NoSuchError():
            return Exit.NOT_FOUND
        case ApiError(code="infeasible"):
            return Exit.CONFLICT
        case ApiError(status=status):
            return _BY_STATUS.get(status, Exit.FAILED)
    return Exit.FAILED
