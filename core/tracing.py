"""OpenTelemetry traces. Does nothing unless PARETOFIT_OTLP_URL is set, which requires the extra `tracing`.

Job messages carry the trace of the request that wrote them (`paretofit.db.outbox`, W3C Trace Context), so attempts on
other machines are part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_HEADER = "traceparent"
_tracers: list[Tracer] = []


def configure(service: str, url: str | None) -> None:
    """Send this process's spans to the collector at `url`; None: no tracing. Call it after a fork, not before.

    Raises RuntimeError if the extra is not installed.
    """
    if url is None or _tracers:
        return
    if find_spec("opentelemetry.sdk") is None:
        raise RuntimeError(
            "PARETOFIT_OTLP_URL is set, but OpenTelemetry is not installed: run `pip install 'paretofit[tracing]'`"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    _tracers.append(provider.get_tracer("paretofit"))


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """A span around the block, in the current trace."""
    if not _tracers:
        yield
        return
    with _tracers[0].start_as_current_span(name, attributes=attributes):
        yield


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """Run the block in this trace."""
    if not _tracers or traceparent is None:
        yield
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    token = context.attach(TraceContextTextMapPropagator().extract({_HEADER: traceparent}))
    try:
        yield
    finally:
        context.detach(token)


def traceparent() -> str | None:
    """The `traceparent` header of the current trace; None outside of a trace."""
    if not _tracers:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER)
