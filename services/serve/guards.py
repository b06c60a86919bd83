"""What every request passes: host, size, counting; and the headers that every answer gets. Pure ASGI.

A page of another site must not reach the server under a name of its own: DNS rebinding makes a foreign name point at
this machine; then the browser sends that name. An address in numbers cannot be made to point elsewhere, so it is always
let through; Starlette's TrustedHostMiddleware knows names only, and no Origin.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deponij.services.serve.counters import Counters

SECURITY = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
# A body that is not here by then never will be.
BODY_TIMEOUT_S = 30.0
_BODIES = 8
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def error_body(code: str, message: str) -> dict[str, Any]:
    """The one shape of all errors; what is no valid Unicode is spelled out."""
    return {"error": {"code": code, "message": message.encode("utf-8", "backslashreplace").decode()}}


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer without having read the request to its end."""
    return JSONResponse(error_body(code, message), status, {"connection": "close", **(headers or {})})


@dataclass(frozen=True)
class Counting:
    """Counts requests by route and status, and sets the headers of every answer."""

    app: ASGIApp
    counters: Counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        with self.counters.under_way.track_inprogress():
            try:
                await self.app(scope, receive, sending)
            finally:
                # The template, never the path: paths are without number.
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
                self.counters.answered(route, method, status, time.perf_counter() - begin)


@dataclass(frozen=True)
class HostGuard:
    """Refuses requests for other hosts, and those that pages of other sites send."""

    app: ASGIApp
    names: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not is_allowed(host, self.names):
                message = (
                    f"this server does not answer for the host {host[:100]!r}; start it with --allow-host"
                )
                return await refusal(421, "unknown_host", message)(scope, receive, send)
            if origin is not None and not is_same_site(origin, self.names):
                message = f"a page of {origin[:100]!r} may not ask this server"
                return await refusal(403, "foreign_page", message)(scope, receive, send)
        return await self.app(scope, receive, send)


@dataclass
class BodyGuard:
    """Reads a request's body within its limits before the application sees it.

    Attributes:
        max_bytes: of one body. All bodies that are held at a time have at most eight times as many.
    """

    app: ASGIApp
    max_bytes: int
    counters: Counters
    _held_bytes: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told = Headers(scope=scope).get("content-length", "")
        body = bytearray()
        try:
            is_large = told.isdecimal() and int(told[:20]) > self.max_bytes
            problem = "too_large" if is_large else await self._read(receive, body)
            if problem is None:
                return await self.app(scope, _replayed(bytes(body), receive), send)
        finally:
            self._held_bytes -= len(body)
        if problem == "gone":
            return None
        if problem != "too_slow":
            self.counters.refused(problem)
        status, message = {
            "too_large": (
                413,
                f"the request is larger than {self.max_bytes:,} bytes; send a smaller picture",
            ),
            "busy": (429, "too many uploads at a time; ask again in a second"),
            "too_slow": (408, f"the body took more than {BODY_TIMEOUT_S:.0f} s"),
        }[problem]
        headers = {"retry-after": "1"} if problem == "busy" else None
        return await refusal(status, problem, message, headers)(scope, receive, send)

    async def _read(self, receive: Receive, body: bytearray) -> str | None:
        """Fill the body; what is wrong with it, or None."""
        deadline = time.monotonic() + BODY_TIMEOUT_S
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return "too_slow"
            if message["type"] == "http.disconnect":
                return "gone"
            chunk = message.get("body", b"")
            body += chunk
            self._held_bytes += len(chunk)
            if len(body) > self.max_bytes:
                return "too_large"
            if self._held_bytes > _BODIES * self.max_bytes:
                return "busy"
            if not message.get("more_body", False):
                return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever the connection has to say."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to this host."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_names(bound: str, further: Sequence[str] = ()) -> frozenset[str]:
    """Names that a request may come for, beside addresses in numbers."""
    names = {bound, *further, *_LOOPBACK_NAMES}
    if not is_loopback(bound):
        own = socket.gethostname()
        names |= {own, f"{own}.local", socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def is_allowed(host_header: str, names: frozenset[str]) -> bool:
    """Whether a Host header, with or without a port, names this server."""
    host = _host_of(host_header)
    if host is None:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in names
    return True


def is_same_site(origin: str, names: frozenset[str]) -> bool:
    """Whether an Origin header is of a page that this server gave."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and is_allowed(rest, names)


def _host_of(header: str) -> str | None:
    try:
        parts = urlsplit(f"//{header}")
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        return None
    if parts.netloc != header or "@" in header:
        return None
    return parts.hostname
