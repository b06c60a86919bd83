"""An S3 server on loopback (moto's), found by the variables that every S3 client reads; and faults that it is told of."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"
# Method and path -> a status to answer with instead, or None.
Fault = Callable[[str, str], int | None]


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

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.seen.append((method, path))
        status = self.fault(method, path) if self.fault is not None else None
        if status is not None:
            # The body is read, or the client's next request is taken for a part of it.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "InternalError")
            start_response(f"{status} {code}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()]
        return self._moto(environ, start_response)

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


def at_random(share: float, seed: int, *statuses: int) -> Fault:
    """Every request fails with this chance."""
    rng = random.Random(seed)

    def fault(method: str, path: str) -> int | None:
        return rng.choice(statuses) if rng.random() < share else None

    return fault


def _forget_clients() -> None:
    """Clients that fsspec keeps hold the address that was in force when they were made."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    os.environ.pop("AWS_PROFILE", None)
