"""The server as a process on loopback: its start, its end, and what raw sockets can try."""

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import serve_world
from cli_world import call
from serve_world import Running, ServeWorld

PLAIN = ("--port", 0, "--max-upload-mb", 0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeWorld]:
    with serve_world.made(tmp_path_factory.mktemp("process")) as made:
        yield made


@pytest.fixture(scope="module")
def server(world: ServeWorld) -> Iterator[Running]:
    with serve_world.running(world, *PLAIN) as found:
        yield found.ready()


def port_of(server: Running) -> int:
    return int(server.url.rpartition(":")[2])


def raw(server: Running, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are; everything that comes back until the server closes, or ten seconds."""
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as connection:
        found = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            while chunk := connection.recv(65536):
                found += chunk
        except (TimeoutError, ConnectionError):
            pass
        return found


def wait_until(found: Callable[[], bool], timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < until
        time.sleep(0.01)


def get(path: str, host: str = "127.0.0.1", extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode("latin-1")


def test_the_profile_in_force_is_served(server: Running) -> None:
    about = json.loads(server.get("/api/about"))
    assert [one["name"] for one in about["backbones"]] == ["mute", "words"]
    assert about["default_backbone"] == "words"
    assert about["label_columns"][0] == "category" and about["has_photographs"] is True
    assert all(one["status"] == "ready" for one in about["backbones"])


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../../etc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/..%2f..%2fparams.yaml"),
        *("/static//etc/passwd", "/static/%00", "/static/page/../serve.py", "/../params.yaml", "/static/"),
        *("/api/thumbnail?id=../../params.yaml", "/api/photograph?id=%2e%2e%2fparams.yaml", "//etc/passwd"),
    ],
)
def test_no_path_leads_to_a_file(server: Running, path: str) -> None:
    answer = raw(server, get(path))
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert b'{"error"' in answer
    assert b"root:" not in answer and b"profile:" not in answer


@pytest.mark.parametrize(
    ("host", "extra", "status"),
    [
        ("localhost", "", 200),
        ("[::1]:80", "", 200),
        ("evil.example", "", 421),
        ("", "", 421),
        ("127.0.0.1", "Origin: http://evil.example\r\n", 403),
        ("127.0.0.1", "Origin: http://127.0.0.1:8765\r\n", 200),
        ("127.0.0.1", "If-None-Match: \xff\r\n", 200),
    ],
)
def test_only_own_names_are_answered(server: Running, host: str, extra: str, status: int) -> None:
    answer = raw(server, get("/api/about", host, extra))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"content-security-policy: default-src 'self'" in head
    assert b"x-content-type-options: nosniff" in head and b"referrer-policy: no-referrer" in head
    assert b"access-control-allow-origin" not in head and b"server:" not in head


def test_an_upload_without_a_length_is_cut_off(server: Running) -> None:
    """The limit is 0.2 MiB of picture, so 1.3 MiB of body; 20 MiB are offered."""
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    n_sent = 0
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        found = b""
        try:
            while n_sent < 320:
                connection.sendall(chunk)
                n_sent += 1
        except ConnectionError:
            pass
        try:
            found = connection.recv(65536)
        except ConnectionError:
            found = b""
    # What was on its way when the server closed may cost the answer; reading on it did not.
    assert found.startswith(b"HTTP/1.1 413 ") or n_sent < 320
    told = raw(server, head + b"Content-Length: 99999999999\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in told
    broken = raw(server, head + b"Content-Length: abc\r\n\r\n")
    assert broken.startswith(b"HTTP/1.1 400 ")
    metrics = server.get("/metrics").decode()
    assert float(re.findall(r'refused_uploads_total{reason="too_large"} (\S+)', metrics)[0]) >= 2


def test_a_client_that_goes_away_harms_nobody(server: Running) -> None:
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port_of(server))) as connection:
            connection.sendall(head + b'{"terms"')
    assert json.loads(server.get("/api/health"))["status"] == "ok"
    assert not [line for line in server.err if "Traceback" in line]


def ask(port: int, text: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps({"terms": [{"kind": "text", "value": text}]})
        connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def refuses(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            return False
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_requests_under_way_are_finished(world: ServeWorld, number: signal.Signals) -> None:
    """One has sent half of its body when the signal comes; others ask without pause."""
    with serve_world.running(world, *PLAIN) as server:
        server.ready()
        port, is_over = port_of(server), threading.Event()
        answers: list[tuple[int, bytes]] = []

        def ask_on(name: int) -> None:
            n = 0
            while not is_over.is_set():
                try:
                    answers.append(ask(port, f"words {name} {n}"))
                except OSError:
                    # Refused or closed before it was asked.
                    return
                n += 1

        threads = [threading.Thread(target=ask_on, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        body = b'{"terms": [{"kind": "text", "value": "half of it"}]}'
        head = (
            b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head)
            # It says so when it has begun with the request and reads its body.
            proceed = b"HTTP/1.1 100 Continue\r\n\r\n"
            assert connection.recv(len(proceed), socket.MSG_WAITALL) == proceed
            connection.sendall(body[:20])
            wait_until(lambda: len(answers) > 4)
            server.process.send_signal(number)
            wait_until(lambda: refuses(port))
            connection.sendall(body[20:])
            found = b""
            while chunk := connection.recv(65536):
                found += chunk
        is_over.set()
        for thread in threads:
            thread.join()
        assert server.ended() == 0
        assert found.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(found.partition(b"\r\n\r\n")[2])["hits"]) == 24
        assert len(answers) > 4
        assert {status for status, _ in answers} == {200}
        assert all(len(json.loads(content)["hits"]) == 24 for _, content in answers)
        assert server.err == []


@pytest.mark.slow
def test_twenty_clients_cost_no_error_and_no_memory(server: Running) -> None:
    """All kinds of questions, new words each time; 30 s of it are in `benchmarks/serve.py`."""
    import psutil

    port, is_over, found = port_of(server), threading.Event(), []
    process = psutil.Process(server.process.pid)

    def ask_on(name: int) -> None:
        n = 0
        while not is_over.is_set():
            found.append(ask(port, "can" if n % 3 == 0 else f"words {name} {n}")[0])
            server.get("/api/thumbnail?side=64&id=batch%200/%C3%9Cbung%200.png%23" + str(n % 4))
            n += 1

    threads = [threading.Thread(target=ask_on, args=(name,)) for name in range(20)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(found) >= 300, 120)
        warm_bytes = process.memory_info().rss
        wait_until(lambda: len(found) >= 900, 120)
        grown = process.memory_info().rss / warm_bytes - 1
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert len(found) > 200 and set(found) == {200}
    assert grown < 0.1
    assert not [line for line in server.err if "Traceback" in line or "ERROR" in line]


@pytest.mark.slow
def test_a_signal_while_models_are_loaded_ends_it_at_once(world: ServeWorld) -> None:
    with serve_world.running(world, *PLAIN) as server:
        server.listening()
        assert len(server.get("/api/about")) > 100
        server.process.send_signal(signal.SIGTERM)
        assert server.ended(20) == 0
        assert server.err == []


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = call("serve", "--port", port)
    told = " ".join(answer.err.split())
    assert answer.status == 2
    assert f"cannot listen at 127.0.0.1 port {port}" in told and "--port" in told


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("--index", "nowhere"), 1, "there is no index at nowhere"),
        (("--backbone", "nobody"), 2, "has no backbone 'nobody'; it has mute, words"),
        (("--images", "nowhere"), 2, "there is no such folder"),
        (("--host", "no.such.host.invalid"), 2, "cannot listen"),
        (("--backbone-spec", "somewhere"), 2, "NAME=SPEC"),
        (("--title", "  "), 2, "--title"),
    ],
)
def test_what_cannot_be_served(
    world: ServeWorld, arguments: tuple[str, ...], status: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.root)
    answer = call("serve", "--port", 0, *arguments)
    assert answer.status == status
    assert word in " ".join(answer.err.split())
    assert answer.out == ""


def test_json_tells_the_address_and_one_index_can_be_named(world: ServeWorld, tmp_path: Path) -> None:
    index = ("--index", world.at.index("mute"), "--items", world.at.items, "--title", "Über Töne")
    with serve_world.running(world, "--port", 0, "--json", *index) as server:
        assert server.process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += server.process.stdout.readline()
        told = json.loads(text)
        assert told["url"] == f"http://127.0.0.1:{told['port']}"
        server.url = told["url"]
        about = json.loads(server.get("/api/about"))
        assert about["title"] == "Über Töne"
        assert [one["n"] for one in about["backbones"]] == [24]
        assert about["default_backbone"] == about["backbones"][0]["name"]
