"""Tables that name pictures by address: a real server on loopback that misbehaves as it is told."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import loopback
import numpy as np
import pytest
from loopback import Loopback
from PIL import Image

from deponij.pipeline.data.adapters import addresses
from deponij.pipeline.data.adapters.registry import FileSource, open_source
from deponij.pipeline.data.adapters.whole import Reading
from deponij.pipeline.data.fetching.http import Pace
from deponij.pipeline.data.item import Item


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setattr(addresses, "Pace", lambda: Pace(backoff_s=0.01, backoff_cap_s=0.02))
    with Loopback() as server:
        yield server


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()


def items_of(table: Path, rows: list[str], *, fetch: bool = True) -> list[Item]:
    table.write_text("\n".join(["url,label", *(f"{row},cat" for row in rows)]) + "\n")
    source = open_source("listed", {"table": table, "path_column": "url", "fetch": fetch})
    return list(source.items(workers=2))


def test_pictures_come_in_order_and_once(server: Loopback, tmp_path: Path) -> None:
    urls = [server.serve(f"/{k}.png", png(k)) for k in range(20)]
    items = items_of(tmp_path / "table.csv", urls)
    assert [item.item_id for item in items] == urls
    assert [item.content for item in items] == [png(k) for k in range(20)]
    assert items_of(tmp_path / "table.csv", urls) == items
    assert all(len(server.asked(f"/{k}.png")) == 1 for k in range(20))


def test_several_at_a_time_but_not_too_many(server: Loopback, tmp_path: Path) -> None:
    urls = [server.serve(f"/{k}.png", png(k), loopback.silent(0.1), loopback.whole()) for k in range(12)]
    items_of(tmp_path / "table.csv", urls)
    most = max(seen.n_under_way for k in range(12) for seen in server.asked(f"/{k}.png"))
    assert 1 < most <= Pace().per_host


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ((loopback.status(404),), "404"),
        ((loopback.status(403),), "403"),
        ((loopback.html(),), ""),
        ((loopback.disguised_html(),), ""),
        ((loopback.status(500),), "500"),
        ((loopback.redirect("/again.png"),), ""),
    ],
)
def test_what_cannot_be_had_is_a_failure_with_its_reason(
    server: Loopback, tmp_path: Path, script: tuple[loopback.Act, ...], reason: str
) -> None:
    server.serve("/again.png", b"", loopback.redirect("/again.png"))
    bad, good = server.serve("/bad.png", png(1), *script), server.serve("/good.png", png(2))
    first, second = items_of(tmp_path / "table.csv", [bad, good])
    assert first.failure is not None
    assert reason in first.failure
    assert bad in first.failure
    assert second.content == png(2)


def test_what_passes_is_asked_again(server: Loopback, tmp_path: Path) -> None:
    urls = [
        server.serve("/1.png", png(1), loopback.status(503), loopback.whole()),
        server.serve("/2.png", png(2), loopback.dropped(), loopback.whole()),
        server.serve("/3.png", png(3), loopback.truncated(), loopback.whole()),
    ]
    assert [item.content for item in items_of(tmp_path / "table.csv", urls)] == [png(1), png(2), png(3)]


def test_a_failure_is_tried_again_by_the_next_run(server: Loopback, tmp_path: Path) -> None:
    url = server.serve("/1.png", png(1), loopback.status(404), loopback.whole())
    assert items_of(tmp_path / "table.csv", [url])[0].failure is not None
    assert items_of(tmp_path / "table.csv", [url])[0].content == png(1)


@pytest.mark.parametrize("address", ["ftp://host/a.png", "file:///etc/passwd", "s3://bucket/a.png"])
def test_other_protocols_are_not_fetched(tmp_path: Path, address: str) -> None:
    (item,) = items_of(tmp_path / "table.csv", [address])
    assert "http and https are" in str(item.failure) or "points outside" in str(item.failure)


def test_nothing_is_fetched_unless_asked(server: Loopback, tmp_path: Path) -> None:
    url = server.serve("/1.png", png(1))
    (item,) = items_of(tmp_path / "table.csv", [url], fetch=False)
    assert "--fetch" in str(item.failure)
    assert server.asked("/1.png") == []


def test_paths_and_addresses_in_one_table(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(png(7))
    url = server.serve("/1.png", png(1))
    items = items_of(tmp_path / "table.csv", ["here.png", url, url])
    assert [item.content for item in items] == [png(7), png(1), None]
    assert "the same picture as row 2" in str(items[2].failure)


def test_a_consumer_that_goes_away_is_not_waited_for(server: Loopback, tmp_path: Path) -> None:
    urls = [server.serve("/0.png", png(0))]
    urls += [server.serve(f"/{k}.png", png(k), loopback.status(503, Retry_After="60")) for k in range(1, 9)]
    (tmp_path / "t.csv").write_text("\n".join(["path", *urls]) + "\n")
    # Alone, its first row is at hand before the others wait for their host.
    stream = open_source("listed", {"table": tmp_path / "t.csv", "fetch": True}).items(workers=0)
    assert next(stream).content == png(0)
    began = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20


def test_too_large_a_file_is_refused(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "MAX_PICTURE_BYTES", 1000)
    stated = server.serve("/a.png", png(0))
    unstated = server.serve("/b.png", png(1), loopback.truncated(1.0, honest=True))
    for item in items_of(tmp_path / "table.csv", [stated, unstated]):
        assert "the file is too large: over 1,000 bytes (after 1 attempts)" in str(item.failure)
    assert not list((tmp_path / "fetched").rglob("*.part"))


def test_what_was_fetched_can_be_named(server: Loopback, tmp_path: Path) -> None:
    url = server.serve("/1.png", png(1))
    (tmp_path / "t.csv").write_text(f"path\n{url}\n")
    source = open_source("listed", {"table": tmp_path / "t.csv", "fetch": True})
    assert isinstance(source, FileSource)
    (item,) = source.items(reading=Reading(by_reference=True))
    assert item.content is None
    assert item.reference is not None
    assert item.reference.read(tmp_path) == png(1)
    assert [path.read_bytes() for path in source.picture_files()] == [png(1)]
