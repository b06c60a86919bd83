"""What every request passes: host, size, counting; and the headers that every answer gets. Pure ASGI."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deponij.services.serve.counters import Counters
from deponij.services.serve.hosts import is_allowed, is_same_site

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


def error_body(code: str, message: str) -> dict[str, Any]:
    """The one shape of all errors; what is no valid Unicode is spelled out."""
    return {"error": {"code": code, "message": message.encode("utf-8", "backslashreplace").decode()}}


async def refuse(
    send: Send, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer without having read the request to its end."""
    body = json.dumps(error_body(code, message)).encode()
    told = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in (told | dict(headers or {})).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class Counting:
    """Counts requests by route and status, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app = app
        self._counters = counters

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

        with self._counters.under_way.track_inprogress():
            try:
                await self.app(scope, receive, sending)
            finally:
                # The template, never the path: paths are without number.
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
                self._counters.answered(route, method, status, time.perf_counter() - begin)


class HostGuard:
    """Refuses requests for other hosts, and those that pages of other sites send."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not is_allowed(host, self._names):
                message = (
                    f"this server does not answer for the host {host[:100]!r}; start it with --allow-host"
                )
                return await refuse(send, 421, "unknown_host", message)
            if origin is not None and not is_same_site(origin, self._names):
                message = f"a page of {origin[:100]!r} may not ask this server"
                return await refuse(send, 403, "foreign_page", message)
        return await self.app(scope, receive, send)


class BodyGuard:
    """Reads a request's body within its limits before the application sees it.

    Args:
        max_bytes: of one body. All bodies that are held at a time have at most eight times as many.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, counters: Counters) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._counters = counters
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told[:20]) > self._max_bytes:
            return await self._too_large(send)
        body = bytearray()
        try:
            problem = await self._read(receive, body)
            if problem is None:
                return await self.app(scope, _replayed(bytes(body), receive), send)
        finally:
            self._held_bytes -= len(body)
        return await self._refuse(send, problem)

    async def _read(self, receive: Receive, body: bytearray) -> str | None:
        """Fill the body; what is wrong with it, or None."""
        deadline = time.monotonic() + BODY_TIMEOUT_S
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return "slow"
            if message["type"] == "http.disconnect":
                return "gone"
            chunk = message.get("body", b"")
            body += chunk
            self._held_bytes += len(chunk)
            if len(body) > self._max_bytes:
                return "large"
            if self._held_bytes > _BODIES * self._max_bytes:
                return "many"
            if not message.get("more_body", False):
                return None

    async def _refuse(self, send: Send, problem: str) -> None:
        if problem == "large":
            return await self._too_large(send)
        if problem == "many":
            self._counters.refused("busy")
            message = "too many uploads at a time; ask again in a second"
            return await refuse(send, 429, "busy", message, {"retry-after": "1"})
        if problem == "slow":
            return await refuse(send, 408, "too_slow", f"the body took more than {BODY_TIMEOUT_S:.0f} s")
        return None

    async def _too_large(self, send: Send) -> None:
        self._counters.refused("too_large")
        message = f"the request is larger than {self._max_bytes:,} bytes; send a smaller picture"
        await refuse(send, 413, "too_large", message)


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
