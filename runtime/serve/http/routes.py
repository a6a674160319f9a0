"""Everything but inference: health, metadata, configuration, statistics, the repository.

GET   /v2                                   GET  /v2/models/{name}[/versions/{version}]
GET   /v2/health/live                       GET  /v2/models/{name}[/versions/{version}]/ready
GET   /v2/health/ready                      GET  /v2/models/{name}[/versions/{version}]/config
POST  /v2/repository/index                  GET  /v2/models/{name}[/versions/{version}]/stats
POST  /v2/repository/models/{name}/load     GET  /v2/models/stats
POST  /v2/repository/models/{name}/unload
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.serve.http.body import read_body
from runtime.serve.oip.desk import Desk
from runtime.serve.oip.errors import Cause, OipError

_Handler = Callable[[Request], Awaitable[Response]]
_MOST_BYTES = 65_536
_ASKED = msgspec.json.Decoder(dict[str, Any])


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response with `value` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_response(error: OipError) -> Response:
    """Return what a client gets in place of an answer."""
    response = json_response({"error": str(error)}, error.cause.http)
    if error.cause is Cause.UNAUTHENTICATED:
        response.headers["www-authenticate"] = "Bearer"
    if error.cause in (Cause.TOO_LARGE, Cause.SLOW):
        response.headers["connection"] = "close"  # what is left of the body is not worth reading
    return response


def routes(desk: Desk) -> Starlette:
    """Return the application of all routes but inference."""
    table: list[Route] = []

    def get(path: str, handler: _Handler) -> None:
        table.append(Route(path, handler, methods=["GET"]))

    def post(path: str, handler: _Handler) -> None:
        table.append(Route(path, handler, methods=["POST"]))

    def of_model(suffix: str, answer: Callable[[str, str], Any]) -> None:
        async def handler(request: Request) -> Response:
            return json_response(answer(request.path_params["name"], request.path_params.get("version", "")))

        get(f"/v2/models/{{name}}{suffix}", handler)
        get(f"/v2/models/{{name}}/versions/{{version}}{suffix}", handler)

    async def server(request: Request) -> Response:
        return json_response(desk.server())

    async def live(request: Request) -> Response:
        return Response()

    async def ready(request: Request) -> Response:
        desk.require_ready()
        return Response()

    async def model_ready(request: Request) -> Response:
        desk.require_model(request.path_params["name"], request.path_params.get("version", ""))
        return Response()

    async def all_statistics(request: Request) -> Response:
        return json_response({"model_stats": desk.statistics()})

    async def index(request: Request) -> Response:
        asked = await _asked(request)
        return json_response(desk.index(ready=asked.get("ready") is True))

    async def load(request: Request) -> Response:
        await desk.load(request.path_params["name"], (await _asked(request)).get("parameters") or {})
        return Response()

    async def unload(request: Request) -> Response:
        await desk.unload(request.path_params["name"])
        return Response()

    get("/v2", server)
    get("/v2/health/live", live)
    get("/v2/health/ready", ready)
    get("/v2/models/stats", all_statistics)
    get("/v2/models/{name}/ready", model_ready)
    get("/v2/models/{name}/versions/{version}/ready", model_ready)
    of_model("/config", desk.config)
    of_model("/stats", lambda name, version: {"model_stats": desk.statistics(name, version)})
    of_model("", desk.model)
    post("/v2/repository/index", index)
    post("/v2/repository/models/{name}/load", load)
    post("/v2/repository/models/{name}/unload", unload)
    return Starlette(routes=table, exception_handlers={OipError: _refused, HTTPException: _unknown})


async def _asked(request: Request) -> dict[str, Any]:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > _MOST_BYTES:
        raise OipError(Cause.TOO_LARGE, f"content-length is {length[:16]!r}: at most {_MOST_BYTES} bytes are read here")
    body = await read_body(request.receive, int(length), None)
    if not len(body):
        return {}
    try:
        return _ASKED.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise OipError(Cause.INVALID, f"the JSON is refused: {error}") from error


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, OipError)  # Starlette hands over what the handler is registered for
    return error_response(error)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return json_response({"error": f"{request.method} {request.url.path[:128]}: {error_text(status)}"}, status)


def error_text(status: int) -> str:
    """Return what to say of a path that is not served."""
    return "no such method here" if status == 405 else "not served; docs/open-inference.md lists what is"
