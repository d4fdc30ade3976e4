"""Addresses that users name, refused as far as that can be told when they are named."""

from __future__ import annotations

import ipaddress
from typing import NoReturn

from paretofit.api import problems
from paretofit.api.schemas.problems import FieldProblem
from paretofit.core import http
from paretofit.core.settings import Settings
from paretofit.search.contracts.dataset import DatasetSpec, S3Source, UrlSource


def check_source(spec: DatasetSpec, tenant: str, settings: Settings) -> None:
    """Refuse a dataset that the service may not fetch. Raises InvalidError."""
    match spec.source:
        case UrlSource(url=url):
            check_url(url, settings, pointer="/source/url")
        case S3Source(url=url):
            # The service's own credentials read it, and may reach more than any one tenant should.
            if not any(url.startswith(place) for place in opened(settings, tenant)):
                _refuse("the service reads nothing there: its operator names what it may (PARETOFIT_S3_SOURCES)")


def opened(settings: Settings, tenant: str) -> list[str]:
    """Where in S3 a tenant's datasets may come from."""
    return [place.replace("{tenant}", tenant) for place in settings.s3_sources]


def check_url(url: str, settings: Settings, *, pointer: str) -> None:
    """Refuse a URL that may not be asked; names are resolved when they are used. Raises InvalidError."""
    try:
        http.check_url(url, [ipaddress.ip_network(network) for network in settings.outbound_networks])
    except http.RefusedError as error:
        _refuse(str(error), pointer=pointer)


def _refuse(detail: str, *, pointer: str = "/source/url") -> NoReturn:
    raise problems.InvalidError(detail, errors=[FieldProblem(pointer=pointer, detail=detail)])
