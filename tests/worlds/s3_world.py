"""An S3 server on loopback (moto's), found by the variables that every S3 client reads; and faults that it is told of."""

import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"
# What is done in place of a proper answer, which the last argument would give.
Act = Callable[[WSGIEnvironment, StartResponse, Callable[..., Iterable[bytes]]], Iterable[bytes]]
# Method and path -> a status to answer with instead, something else to do, or None.
Fault = Callable[[str, str], int | Act | None]
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}


class _Silent(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        """No line a request."""


@dataclass
class Server:
    """The server.

    Attributes:
        seen: method and path of every request, in order.
        fault: asked about every request.
    """

    url: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault | None = None
    _moto: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.seen.append((method, path))
            answer = self.fault(method, path) if self.fault is not None else None
        if answer is None:
            return self._moto(environ, start_response)
        act = refusing(answer) if isinstance(answer, int) else answer
        return act(environ, start_response, self._moto)

    @property
    def depot(self) -> str:
        """A URL for a depot."""
        return f"s3://{BUCKET}/depot"


@contextmanager
def serving(patch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with an empty bucket; the environment of this process and its children names it."""
    server = Server("")
    server._moto = DomainDispatcherApplication(create_backend_app)
    made = make_server("127.0.0.1", 0, server, threaded=True, request_handler=_Silent)
    server.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    told = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    for name, value in {**told, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        patch.setenv(name, value)
    _forget_clients()
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield server
        server.fault = None
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for one in page.get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)
    finally:
        made.shutdown()
        thread.join()
        _forget_clients()


def names(prefix: str = "depot/") -> list[str]:
    """Names of the objects below a prefix."""
    client, found = boto3.client("s3"), []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        found += [one["Key"].removeprefix(prefix) for one in page.get("Contents", ())]
    return sorted(found)


def refusing(status: int, code: str = "") -> Act:
    """An error of S3's."""
    code = code or _CODES.get(status, "InternalError")

    def act(environ: WSGIEnvironment, start_response: StartResponse, app: object) -> Iterable[bytes]:
        _drain(environ)
        body = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
        start_response(f"{status} {code}", [("Content-Type", "application/xml")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return act


def resetting(*, done: bool = False) -> Act:
    """The connection is reset; `done`: after the request was carried out, whose answer is lost."""

    def act(
        environ: WSGIEnvironment, start_response: StartResponse, app: Callable[..., Iterable[bytes]]
    ) -> Iterable[bytes]:
        if done:
            b"".join(app(environ, lambda *_: None))
        else:
            _drain(environ)
        _reset(environ)
        return []

    return act


def truncating(share: float = 0.5) -> Act:
    """A part of the body that was announced, then a reset connection."""

    def act(
        environ: WSGIEnvironment, start_response: StartResponse, app: Callable[..., Iterable[bytes]]
    ) -> Iterable[bytes]:
        kept: list[Any] = []
        body = b"".join(app(environ, lambda *given: kept.extend(given)))
        start_response(kept[0], kept[1])
        yield body[: int(len(body) * share)]
        _reset(environ)

    return act


def after(deed: Callable[[], object]) -> Act:
    """A proper answer, once something else has happened: the request was long on its way."""

    def act(
        environ: WSGIEnvironment, start_response: StartResponse, app: Callable[..., Iterable[bytes]]
    ) -> Iterable[bytes]:
        deed()
        return app(environ, start_response)

    return act


def unconditional(
    environ: WSGIEnvironment, start_response: StartResponse, app: Callable[..., Iterable[bytes]]
) -> Iterable[bytes]:
    """As a server that does not know `If-None-Match`, and writes."""
    environ.pop("HTTP_IF_NONE_MATCH", None)
    return app(environ, start_response)


def once(asked: Callable[[str, str], bool], act: Act) -> Fault:
    """The first request of a kind, and no other."""
    came: list[str] = []

    def fault(method: str, path: str) -> Act | None:
        if came or not asked(method, path):
            return None
        came.append(path)
        return act

    return fault


def _drain(environ: WSGIEnvironment) -> None:
    # Or the client's next request would be taken for a part of this one.
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _reset(environ: WSGIEnvironment) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)


def at_random(share: float, seed: int, *answers: int | Act) -> Fault:
    """Every request fails with this chance."""
    rng = random.Random(seed)

    def fault(method: str, path: str) -> int | Act | None:
        return rng.choice(answers) if rng.random() < share else None

    return fault


def _forget_clients() -> None:
    """Clients that fsspec keeps hold the address that was in force when they were made."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    os.environ.pop("AWS_PROFILE", None)
