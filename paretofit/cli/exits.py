"""The exit code of each kind of failure."""

from __future__ import annotations

from enum import IntEnum

from paretofit.client.errors import ApiError, NoSuchError, ParetofitError, UnreachableError, UsageError


class Exit(IntEnum):
    """Exit codes of the `paretofit` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    FORBIDDEN = 6
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "success",
    Exit.FAILED: "search, dataset, weights or command failed",
    Exit.USAGE: "invalid usage or specification",
    Exit.NOT_FOUND: "search, dataset, weights, trial or point not found",
    Exit.UNREACHABLE: "service unreachable",
    Exit.CONFLICT: "no network can meet the constraints, or the current state does not allow the operation",
    Exit.FORBIDDEN: "API key missing or not authorized",
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
    """The exit code of an exception."""
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
