"""The trace of a request continues in the attempts that it causes, in other processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.api.process import running
from tests.workers.fleet import FAST, Fleet
from tests.workers.test_ingestion_jobs import archive

pytestmark = pytest.mark.integration

TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def span_collector() -> Iterator[tuple[str, list[tuple[str, Span]]]]:
    """The URL of a collector and the spans it received: (service, span)."""
    spans: list[tuple[str, Span]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
                spans.extend((names[0], span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
        server.shutdown()
        thread.join()


def test_upload_and_validation_share_one_trace(tmp_path: Path, database_url: str, redis_url: str) -> None:
    from paretofit.db.engine import connect

    engine = connect(database_url)
    home = tmp_path / "home"
    home.mkdir()
    with span_collector() as (url, spans), Fleet(engine, database_url, redis_url, home) as fleet:
        fleet.environment |= {"PARETOFIT_OTLP_URL": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        fleet.start("paretofit.workers.relay")
        fleet.start("paretofit.workers", "light", "--processes", "1")
        variables = {name: value for name, value in FAST.items() if name != "PARETOFIT_METHODS"}
        traced = {"PARETOFIT_OTLP_URL": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running(home, database_url, redis_url, None, **variables, **traced) as api:
            dataset = api.http.post("/v1/datasets", json={"name": "d", "source": {"kind": "upload"}}).json()
            content = archive(tmp_path / "a.zip").read_bytes()
            parent = f"00-{TRACE}-b7ad6b7169203331-01"
            uploaded = api.http.put(
                f"/v1/datasets/{dataset['id']}/content", content=content, headers={"traceparent": parent}
            )
            assert uploaded.status_code == 200
            fleet.wait(
                lambda: {name for name, span in spans if span.trace_id.hex() == TRACE} >= {"api", "light"}, "trace"
            )
    engine.dispose()
    [job] = [span for name, span in spans if span.name == "job"]
    [request] = [span for _, span in spans if span.name == "request" and span.trace_id.hex() == TRACE]
    assert job.parent_span_id == request.span_id
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert {each.key: each.value.string_value for each in job.attributes}["subject"] == dataset["id"]
