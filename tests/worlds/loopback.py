"""A real HTTP server on the loopback interface that serves files and misbehaves as it is told.

Each path has a script: what to do at the first request, the second, and so on; the last entry
repeats. All requests are logged with their headers and the number of requests under way.
"""

import email.utils
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

Act = Callable[["Handler", bytes], None]
HTML = b"<!DOCTYPE html><html><body>This photo is no longer available</body></html>"


@dataclass
class Seen:
    """One request: its path, headers, when it came and how many were under way with it."""

    path: str
    headers: dict[str, str]
    at_s: float
    n_under_way: int


@dataclass
class Route:
    """A body and the script of a path."""

    body: bytes
    script: Sequence[Act]
    n_asked: int = 0


@dataclass
class Loopback:
    """The server, as a context manager; `url(path)` is an address on it."""

    routes: dict[str, Route] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> "Loopback":
        self.lock = threading.Lock()
        self.n_under_way = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.loopback = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, body: bytes, *script: Act) -> str:
        """Serve a body under a path, by default whole and at once; the address."""
        self.routes[path] = Route(body, script or (whole(),))
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def asked(self, path: str) -> list[Seen]:
        """The requests for one path, in order."""
        return [request for request in self.seen if request.path == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Loopback = self.server.loopback  # type: ignore[attr-defined]
        with server.lock:
            server.n_under_way += 1
            seen = Seen(self.path, dict(self.headers.items()), time.monotonic(), server.n_under_way)
            server.seen.append(seen)
            route = server.routes.get(self.path)
            if route is not None:
                act = route.script[min(route.n_asked, len(route.script) - 1)]
                route.n_asked += 1
        try:
            if route is None:
                status(404)(self, b"")
            else:
                act(self, route.body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away, which some tests want
        finally:
            with server.lock:
                server.n_under_way -= 1

    def log_message(self, format: str, *args: object) -> None:
        pass

    def head(self, code: int, n_body: int | None, headers: dict[str, str]) -> None:
        self.send_response(code)
        if n_body is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(n_body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def etag(body: bytes) -> str:
    """A strong validator of these bytes."""
    return f'"{hashlib.sha1(body).hexdigest()}"'


def whole(
    *, ranges: bool = True, tag: str | None = None, dated: bool = False, pause_s: float = 0.0, pieces: int = 1
) -> Act:
    """The file, or the rest of it where a range is asked for under a validator that still holds.

    Args:
        ranges: honour Range and If-Range and send an ETag.
        tag: send this validator instead of the body's own.
        dated: send Last-Modified in place of an ETag.
        pause_s: wait before each piece.
        pieces: send the body in so many pieces.
    """

    def act(handler: Handler, body: bytes) -> None:
        start, code, headers = 0, 200, {"Content-Type": "image/jpeg"}
        if ranges:
            validator = email.utils.formatdate(1_500_000_000, usegmt=True) if dated else tag or etag(body)
            headers["Last-Modified" if dated else "ETag"] = validator
            asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
            if asked and handler.headers.get("If-Range") == validator:
                start, code = int(asked[1]), 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                if start >= len(body):
                    return handler.head(416, 0, {"Content-Range": f"bytes */{len(body)}"})
        handler.head(code, len(body) - start, headers)
        step = max(1, -(-(len(body) - start) // pieces))
        for offset in range(start, len(body), step):
            time.sleep(pause_s)
            handler.wfile.write(body[offset : offset + step])
            handler.wfile.flush()
        return None

    return act


def status(code: int, **headers: str) -> Act:
    """A bare status; keyword arguments are headers, `Retry_After="1"`."""

    def act(handler: Handler, body: bytes) -> None:
        handler.head(code, 0, {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def html() -> Act:
    """An HTML page with status 200."""

    def act(handler: Handler, body: bytes) -> None:
        handler.head(200, len(HTML), {"Content-Type": "text/html; charset=utf-8"})
        handler.wfile.write(HTML)

    return act


def disguised_html() -> Act:
    """An HTML page with status 200 that claims to be a picture."""

    def act(handler: Handler, body: bytes) -> None:
        handler.head(200, len(HTML), {"Content-Type": "image/jpeg"})
        handler.wfile.write(HTML)

    return act


def dropped(share: float = 0.5, *, ranges: bool = True) -> Act:
    """Full Content-Length, a share of the body, then a reset connection."""

    def act(handler: Handler, body: bytes) -> None:
        headers = {"Content-Type": "image/jpeg"} | ({"ETag": etag(body)} if ranges else {})
        handler.head(200, len(body), headers)
        handler.wfile.write(body[: int(len(body) * share)])
        handler.wfile.flush()
        time.sleep(0.05)  # let the client read before the reset discards what is on its way
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    return act


def truncated(share: float = 0.5, *, honest: bool = False) -> Act:
    """Part of the body and an orderly end; `honest`: without a Content-Length that would give it away."""

    def act(handler: Handler, body: bytes) -> None:
        if honest:
            handler.head(200, None, {"Content-Type": "image/jpeg"})
        else:
            handler.head(200, len(body), {"Content-Type": "image/jpeg"})
            handler.close_connection = True
        handler.wfile.write(body[: int(len(body) * share)])

    return act


def silent(seconds: float) -> Act:
    """Nothing for a while, then the file."""

    def act(handler: Handler, body: bytes) -> None:
        time.sleep(seconds)
        whole()(handler, body)

    return act


def redirect(to: str) -> Act:
    """On to another address."""
    return status(302, Location=to)
