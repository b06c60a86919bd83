"""What bodies and hosts meet before the application, without sockets."""

import asyncio
import json
from typing import Any

import pytest

from deponij.services.serve import guards
from deponij.services.serve.counters import Counters
from deponij.services.serve.guards import BodyGuard, Counting, HostGuard, allowed_names


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that sends back what it was sent."""
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def call(
    app: Any, pieces: list[bytes], *, pause_s: float = 0.0, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer to a POST whose body comes in pieces."""
    waiting, sent = list(pieces), []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {"host": "localhost"}).items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
    asyncio.run(app(scope, receive, send))
    if not sent:
        return 0, b"", {}
    return sent[0]["status"], sent[1]["body"], {n.decode(): v.decode() for n, v in sent[0]["headers"]}


def guard(max_bytes: int = 10) -> BodyGuard:
    return BodyGuard(echo, max_bytes, Counters())


def test_a_body_arrives_whole() -> None:
    assert call(guard(), [b"abc", b"", b"defghij"])[:2] == (200, b"abcdefghij")


def test_a_large_body_is_not_read_on() -> None:
    app = guard()
    pieces = [b"x" * 6] * 100
    status, body, headers = call(app, pieces)
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (413, "too_large", "close")
    assert call(app, [], headers={"host": "localhost", "content-length": "11"})[0] == 413
    # Nothing of it is counted as held any more.
    assert call(app, [b"x" * 10])[0] == 200
    assert app._held_bytes == 0


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_TIMEOUT_S", 0.05)
    assert call(guard(), [b"x"] * 9, pause_s=0.02)[0] == 408


def test_who_goes_away_gets_no_answer() -> None:
    async def gone(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    app = BodyGuard(gone, 10, Counters())
    assert call(app, [])[0] == 0


def test_all_bodies_together_are_bounded() -> None:
    app = guard()
    app._held_bytes = 8 * 10
    status, body, headers = call(app, [b"x"])
    assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (429, "busy", "1")
    assert app._held_bytes == 8 * 10


def test_hosts_and_origins() -> None:
    app = HostGuard(echo, allowed_names("127.0.0.1"))
    for headers, status in (
        ({"host": "localhost"}, 200),
        ({}, 421),
        ({"host": "a.example"}, 421),
        ({"host": "localhost", "origin": "https://a.example"}, 403),
    ):
        assert call(app, [b""], headers=headers or {"x": "y"})[0] == status


def test_every_answer_has_the_headers_and_is_counted() -> None:
    counters = Counters()
    status, _, headers = call(Counting(echo, counters), [b""])
    assert status == 200
    assert headers.items() >= guards.SECURITY.items()
    assert b'deponij_requests_total{method="POST",route="other",status="200"} 1.0' in counters.text()


def test_messages_are_valid_unicode() -> None:
    json.dumps(guards.error_body("x", "\ud800"), ensure_ascii=False).encode()
