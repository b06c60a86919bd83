"""Which Host and Origin headers are let through."""

import pytest

from deponij.services.serve.guards import allowed_names, is_allowed, is_loopback, is_same_site

LOOPBACK = allowed_names("127.0.0.1", ["Archive.Example"])


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80"),
        *("192.168.1.7:8765", "archive.example", "ARCHIVE.example:443"),
    ],
)
def test_own_names_and_numbers(host: str) -> None:
    assert is_allowed(host, LOOPBACK)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8765"),
        *(
            "evil.example#localhost",
            "localhost@evil.example",
            "evil.example/localhost",
            "[::1",
            "localhost:x",
        ),
        *("127.1", "localhost:99999", "2130706433", "0x7f.1"),
    ],
)
def test_foreign_and_broken_names(host: str) -> None:
    assert not is_allowed(host, LOOPBACK)


def test_origins() -> None:
    assert is_same_site("http://localhost:8765", LOOPBACK)
    assert is_same_site("https://archive.example", LOOPBACK)
    for origin in ("null", "http://evil.example", "file://", "javascript://localhost", ""):
        assert not is_same_site(origin, LOOPBACK)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_a_server_for_others_knows_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Bench")
    monkeypatch.setattr("socket.getfqdn", lambda: "bench.lab.example")
    names = allowed_names("0.0.0.0")
    assert is_allowed("bench:80", names) and is_allowed("bench.lab.example", names)
    assert not is_allowed("bench", LOOPBACK)
