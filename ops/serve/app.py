"""The HTTP endpoints of the service: health, readiness and metrics. They expose no data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


def make_app(data: AsyncDataAccess, warm_limit: int = 0) -> Starlette:
    """Create the application. Its lifespan opens `data`, and runs drainer and maintenance in the background."""
    drainer = OutboxDrainer(data)
    maintenance = Maintenance(data)
    warming = StartWarming(data, warm_limit)
    probe = ReadinessProbe(data, drainer)
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
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(routes=routes, lifespan=lifespan)
