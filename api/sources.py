"""Checks of the URLs that users submit, as far as they are possible at submission."""

from __future__ import annotations

import ipaddress
from typing import NoReturn

from paretofit.api import problems
from paretofit.api.schemas.problems import FieldProblem
from paretofit.core import http
from paretofit.core.settings import Settings
from paretofit.search.contracts.dataset import DatasetSpec, S3Source, UrlSource


def check_source(spec: DatasetSpec, tenant: str, settings: Settings) -> None:
    """Reject a dataset that the service must not fetch. Raises InvalidError."""
    match spec.source:
        case UrlSource(url=url):
            check_url(url, settings, pointer="/source/url")
        case S3Source(url=url):
            # It is read with the service's own credentials, which may reach more than a tenant should.
            if not any(url.startswith(place) for place in opened(settings, tenant)):
                _refuse(
                    "the service may not read this location: use one that its operator allows (PARETOFIT_S3_SOURCES)"
                )


def opened(settings: Settings, tenant: str) -> list[str]:
    """The S3 prefixes that datasets of a tenant may come from."""
    return [place.replace("{tenant}", tenant) for place in settings.s3_sources]


def check_url(url: str, settings: Settings, *, pointer: str) -> None:
    """Reject a URL that must not be requested; names are resolved on use. Raises InvalidError."""
    try:
        http.check_url(url, [ipaddress.ip_network(network) for network in settings.outbound_networks])
    except http.RefusedError as error:
        _refuse(str(error), pointer=pointer)


def _refuse(detail: str, *, pointer: str = "/source/url") -> NoReturn:
    raise problems.InvalidError(detail, errors=[FieldProblem(pointer=pointer, detail=detail)])
