"""Traces over OTLP (HTTP, protobuf): of each frame a vehicle sends to an edge server, of each request of a client, and
of the computing of both at an edge server.

The vehicle's span is the parent of the edge server's: the request carries it as `traceparent`. Spans are exported in
batches by a thread of OpenTelemetry's own SDK; a receiver that does not answer costs spans, and nothing else. Headers,
certificates and sampling are set by OpenTelemetry's environment variables (OTEL_EXPORTER_OTLP_HEADERS and others).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from offload.server.traced import Traced
from runtime.errors import ConfigurationError

try:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError("traces need OpenTelemetry: pip install 'headway[otel]'") from error

Value = str | int | float | bool
_TIMEOUT_S = 2
_DELAY_MS = 1000
_S = 1e9
_PROPAGATOR = TraceContextTextMapPropagator()


class OpenSpan:
    """A span that has begun."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        """Its W3C trace context, for whoever works on."""

    def end(self, attributes: Mapping[str, Value], failure: str = "") -> None:
        """End it now; with `failure`, as one that failed."""
        self._span.set_attributes(attributes)
        if failure:
            self._span.set_status(trace.StatusCode.ERROR, failure)
        self._span.end()


class Tracing:
    """Exports spans.

    Args:
        endpoint: The receiver, as http://127.0.0.1:4318.
        service: Who speaks: "headway" or "headway-edge".
    Raises:
        ConfigurationError: the endpoint is no http or https address.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigurationError(f"otlp = {endpoint!r}: must be an address as http://127.0.0.1:4318")
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
        resource = Resource.create({"service.name": service, "service.version": version("headway")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MS))
        self._tracer = self._provider.get_tracer("headway")

    def begin(self, name: str, attributes: Mapping[str, Value]) -> OpenSpan:
        """Begin a span of its own trace, which others go on with."""
        return OpenSpan(self._tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=dict(attributes)))

    def asked(self, model: str, traceparent: str | None) -> OpenSpan:
        """Begin the span of a client's request, a child of the one that it came with if that can be read."""
        parent = None if traceparent is None else _PROPAGATOR.extract({"traceparent": traceparent})
        attributes = {"headway.model": model}
        return OpenSpan(self._tracer.start_span("infer", parent, kind=trace.SpanKind.SERVER, attributes=attributes))

    def answered(self, traced: Traced) -> None:
        """Tell of a computed request as a child of the span that it came with."""
        parent = _PROPAGATOR.extract({"traceparent": traced.traceparent})
        end_ns = time.time_ns()
        start_ns = end_ns - round(_S * (max(0.0, traced.queue_s) + traced.compute_s))
        attributes: dict[str, Value] = {
            "headway.model": traced.model,
            "headway.code": traced.code,
            "headway.exit": traced.exit_id or "",
            "headway.queue_s": traced.queue_s,
            "headway.compute_s": traced.compute_s,
        }
        kind = trace.SpanKind.SERVER
        span = self._tracer.start_span("edge", parent, kind=kind, attributes=attributes, start_time=start_ns)
        span.end(end_ns)

    def close(self) -> None:
        """Export what is left, and end."""
        self._provider.shutdown()


@contextmanager
def tracing(endpoint: str, service: str) -> Iterator[Tracing]:
    """Trace for as long as the context lasts; see `Tracing`."""
    traces = Tracing(endpoint, service)
    try:
        yield traces
    finally:
        traces.close()
