"""The HTTP endpoints of the service: health, readiness and metrics. They expose no data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from db import AsyncDataAccess
from ops.serve import disk
from ops.serve.drainer import OutboxDrainer
from ops.serve.maintenance import Maintenance
from ops.serve.readiness import ReadinessProbe
from ops.serve.warming import StartWarming

# How long an answer of /metrics is reused. Rendering takes some milliseconds, in which the outbox waits.
METRICS_SECONDS = 0.1


class MetricsPage:
    """The metrics as Prometheus text, rendered at most ten times a second however many clients request them."""

    def __init__(self) -> None:
        self._text = b""
        self._rendered_at = float("-inf")

    def render(self) -> bytes:
        """Return the metrics, rendered at most METRICS_SECONDS ago."""
        if monotonic() - self._rendered_at >= METRICS_SECONDS:
            self._text = generate_latest()
            self._rendered_at = monotonic()
        return self._text


def make_app(data: AsyncDataAccess, warm_limit: int = 0) -> Starlette:
    """Create the application. Its lifespan opens `data`, and runs drainer and maintenance in the background."""
    drainer = OutboxDrainer(data)
    maintenance = Maintenance(data)
    warming = StartWarming(data, warm_limit)
    probe = ReadinessProbe(data, drainer)
    page = MetricsPage()
    disk.measure()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with data:
            await drainer.start()
            await maintenance.start()
            warming.start()
            try:
                yield
            finally:
                await warming.stop()
                await maintenance.stop()
                await drainer.stop()

    async def healthz(_: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(_: Request) -> Response:
        readiness = await probe.check()
        return JSONResponse(readiness.as_json(), status_code=200 if readiness.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(page.render(), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(routes=routes, lifespan=lifespan)
