"""The HTTP API and the page: routes, errors, headers. What is answered is made by `service`. This is no stage."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from deponij.pipeline.reports.palette import palette_css, palette_json
from deponij.services.serve import schema
from deponij.services.serve.batching import BusyError
from deponij.services.serve.counters import MEDIA_TYPE, Counters
from deponij.services.serve.guards import BodyGuard, Counting, HostGuard, error_body
from deponij.services.serve.limits import TooLargeError, TooManyPixelsError, check_upload
from deponij.services.serve.map import NoMapError
from deponij.services.serve.models import LoadingError, NoModelError, NoTextError
from deponij.services.serve.pictures import Encoded, NoPhotographError, UnknownItemError
from deponij.services.serve.service import Service, UnknownBackboneError
from deponij.store.errors import DeponijError, PictureError, UsageError

PAGE = Path(__file__).resolve().parent / "page"
_LOG = logging.getLogger("deponij.serve")
# The first that fits; what is not here is the server's own fault.
_PROBLEMS: tuple[tuple[type[DeponijError], int, str], ...] = (
    (UnknownItemError, 404, "unknown_item"),
    (UnknownBackboneError, 404, "unknown_backbone"),
    (NoMapError, 404, "no_map"),
    (NoPhotographError, 404, "no_photograph"),
    (TooLargeError, 413, "picture_too_large"),
    (TooManyPixelsError, 400, "picture_too_large"),
    (PictureError, 400, "not_a_picture"),
    (BusyError, 429, "busy"),
    (LoadingError, 409, "model_loading"),
    (NoTextError, 409, "no_text_tower"),
    (NoModelError, 409, "model_failed"),
    (UsageError, 400, "bad_request"),
)
_RETRY_S = {"busy": "1", "model_loading": "3"}
_REFUSED = ("not_a_picture", "picture_too_large", "busy")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}
# What the framework says of itself, for people.
_BARE = {
    "Not Found": "there is nothing at {path}; /openapi.json lists what there is",
    "Method Not Allowed": "{path} is not for {method}; /openapi.json says how it is asked",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.ErrorAnswer, "description": text}
    for status, text in (
        (400, "The request cannot be carried out: a picture, filter or combination that does not work."),
        (403, "A page of another site asks."),
        (404, "There is no such item, backbone, map or page."),
        (405, "Another method is meant."),
        (408, "The body did not come in time."),
        (409, "The model is still loading, is not here, or has no text tower."),
        (413, "The body or the picture is too large."),
        (415, "The body is of another type."),
        (421, "The Host header names another server."),
        (422, "A field is missing, unknown, of a wrong type or out of its range."),
        (429, "Too much is waiting; ask again later."),
    )
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A picture.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/png")
        },
    },
    304: {"description": "It is what was had before."},
}
ItemIdQuery = Annotated[schema.ItemId, Query(alias="id", description="Item id.")]


def create_app(service: Service, counters: Counters, host_names: frozenset[str]) -> FastAPI:
    """The application.

    Args:
        host_names: that it answers to, beside addresses in numbers.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    about = service.about()
    app = FastAPI(
        title=about.title,
        version=about.version,
        description="Search pictures by pictures, words and metadata.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    _add_pages(app, counters)
    _add_search(app, service)
    _add_things(app, service)
    _add_errors(app, counters)
    # The last one added sees a request first.
    app.add_middleware(BodyGuard, max_bytes=service.limits.body_bytes, counters=counters)
    app.add_middleware(HostGuard, names=host_names)
    app.add_middleware(Counting, counters=counters)
    return app


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post("/api/search", response_model=schema.SearchAnswer)
    async def search(query: schema.Query) -> schema.SearchAnswer:
        """Items like words, items and pictures, each with a weight, among those that pass the filters."""
        return await service.search(query)

    @app.post("/api/picture", response_model=schema.SearchAnswer)
    async def picture(
        picture: Annotated[UploadFile, File(description="The picture.")],
        backbone: Annotated[schema.Name | None, Form()] = None,
        top: Annotated[schema.Top, Form()] = 24,
        unique: Annotated[bool, Form()] = False,
    ) -> schema.SearchAnswer:
        """Items like one picture: `curl -F picture=@photo.jpg`."""
        content = await picture.read(service.limits.upload_bytes + 1)
        check_upload(content, service.limits)
        name = (picture.filename or "the picture")[:200]
        return await service.search_picture(content, name, backbone, top, unique)


def _add_things(app: FastAPI, service: Service) -> None:
    @app.get(
        "/api/health", responses={503: {"model": schema.Health, "description": "It is closing, or broken."}}
    )
    async def health(response: Response) -> schema.Health:
        """Whether all is well. Missing models do not make it fail: items and stored words can be asked for."""
        health = service.health()
        response.status_code = 503 if health.status == "failed" else 200
        return health

    @app.get("/api/about")
    async def about() -> schema.About:
        """What is served: backbones, columns, limits."""
        return service.about()

    @app.get("/api/item")
    async def item(item_id: ItemIdQuery) -> schema.ItemAnswer:
        """One item, and the photograph that it was cut from."""
        return await service.aside(service.item, item_id)

    @app.get("/api/thumbnail", response_class=Response, responses=_PICTURE)
    async def thumbnail(
        request: Request, item_id: ItemIdQuery, side: Annotated[int, Query(ge=32, le=512)] = 160
    ) -> Response:
        """An item's picture; its longest side has at most `side` pixels."""
        return _sent(await service.aside(service.pictures.thumbnail, item_id, side), request)

    @app.get("/api/photograph", response_class=Response, responses=_PICTURE)
    async def photograph(
        request: Request, item_id: ItemIdQuery, side: Annotated[int, Query(ge=64, le=2048)] = 1024
    ) -> Response:
        """The photograph of an item, upright; its longest side has at most `side` pixels."""
        return _sent(await service.aside(service.pictures.photograph, item_id, side), request)

    @app.get("/api/map")
    async def embedding_map(
        backbone: Annotated[schema.Name | None, Query()] = None,
        layout: Annotated[schema.Name | None, Query(description="tsne or pca")] = None,
        labels: Annotated[schema.Name | None, Query()] = None,
    ) -> schema.MapAnswer:
        """Where the items lie in a plane; at most 20,000 of them."""
        return await service.aside(service.map, backbone, layout, labels)


def _add_pages(app: FastAPI, counters: Counters) -> None:
    files = StaticFiles(directory=PAGE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await static("index.html", request)

    @app.get("/static/palette.css", include_in_schema=False)
    async def colours() -> Response:
        return Response(palette_css(), media_type="text/css", headers={"cache-control": "no-cache"})

    @app.get("/static/palette.json", include_in_schema=False)
    async def shapes() -> Response:
        return JSONResponse(palette_json(), headers={"cache-control": "no-cache"})

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str, request: Request) -> Response:
        if "\0" in name:
            raise HTTPException(404)
        sent = await files.get_response(name, request.scope)
        sent.headers["cache-control"] = "no-cache"
        return sent

    @app.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Counts."}
        },
    )
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(counters.text(), media_type=MEDIA_TYPE)


def _sent(encoded: Encoded, request: Request) -> Response:
    # Not for ever: an address stays the same when the items are made anew.
    headers = {"etag": encoded.etag, "cache-control": "private, max-age=3600"}
    if encoded.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(encoded.content, media_type=encoded.media_type, headers=headers)


def _add_errors(app: FastAPI, counters: Counters) -> None:
    @app.exception_handler(DeponijError)
    async def deponij_error(_: Request, error: DeponijError) -> Response:
        for kind, status, code in _PROBLEMS:
            if isinstance(error, kind):
                if code in _REFUSED:
                    counters.refused(code)
                headers = {"retry-after": _RETRY_S[code]} if code in _RETRY_S else None
                return JSONResponse(error_body(code, str(error)), status, headers)
        _LOG.error("%s", error)
        return JSONResponse(error_body("broken", str(error)), 500)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if request.method == "POST" and not _is_expected(request):
            media_type = "multipart/form-data" if request.url.path == "/api/picture" else "application/json"
            return JSONResponse(error_body("unsupported_media_type", f"send the body as {media_type}"), 415)
        return JSONResponse(error_body("invalid", _told(error)), 422)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code, message = _CODES.get(error.status_code, "bad_request"), str(error.detail)
        if message in _BARE:
            message = _BARE[message].format(method=request.method[:20], path=request.url.path[:200])
        return JSONResponse(error_body(code, message), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        message = "something went wrong in the server; its log says what"
        return JSONResponse(error_body("internal", message), 500)


def _is_expected(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.url.path == "/api/picture":
        return kind in ("multipart/form-data", "application/x-www-form-urlencoded")
    return kind == "application/json" or kind.endswith("+json")


def _told(error: RequestValidationError) -> str:
    """What is wrong, field by field; what was sent is not repeated, for it may be long."""
    problems = []
    for one in error.errors()[:5]:
        place = ".".join(str(part)[:50] for part in one["loc"] if part not in ("body", "query"))
        message = str(one["msg"]).removeprefix("Value error, ")
        problems.append(f"{place}: {message}" if place else message)
    return "; ".join(problems)[:1000]
