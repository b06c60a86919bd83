"""A table of addresses, fetched from a real server on loopback that misbehaves."""

import io
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from coco_made import noise
from loopback import Loopback, disguised_html, dropped, html, redirect, silent, status, truncated, whole

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.adapters.whole import Reading
from deponij.pipeline.data.fetching import pictures as fetching
from deponij.pipeline.data.fetching.http import Pace
from deponij.pipeline.data.known_files import KnownFiles
from deponij.store.errors import DataError


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    noise(30, 20, number).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PACE", Pace(backoff_s=0.01, backoff_cap_s=0.02))


def opened(root: Path, urls: list[str], **options: Any) -> Any:
    lines = [f"{url},{'cat' if number % 2 else 'dog'}" for number, url in enumerate(urls)]
    (root / "t.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    values = {"table": root / "t.csv", "downloads": root / "kept", "timeout_s": 2.0, "retries": 2}
    return open_source("listed", {**values, **options})


def test_what_a_server_does_wrong_is_told_per_row(tmp_path: Path) -> None:
    with Loopback() as server:
        scripts = {
            "/fine.png": (whole(),),
            "/gone.png": (status(404),),
            "/once.png": (status(500), whole()),
            "/busy.png": (status(429, Retry_After="0"), whole()),
            "/always.png": (status(503),),
            "/page.png": (html(),),
            "/disguised.png": (disguised_html(),),
            "/reset.png": (dropped(), whole()),
            "/cut.png": (truncated(honest=True),),
            "/slow.png": (silent(5.0),),
            "/there.png": (redirect("/fine.png"),),
            "/loop.png": (redirect("/loop.png"),),
            "/text.png": (whole(),),
        }
        bodies = {path: picture(number) for number, path in enumerate(scripts)} | {"/text.png": b"no picture"}
        urls = [server.serve(path, bodies[path], *script) for path, script in scripts.items()]
        source = opened(tmp_path, [*urls, urls[0], "ftp://host/a.png"], timeout_s=1.0, retries=1)
        items = {one.item_id: one for one in source.items(workers=2)}
        assert len(items) == source.n_items == len(urls) + 2
        found = {path: items[server.url(path)] for path in scripts}
    sound = {path for path, one in found.items() if one.failure is None}
    assert sound == {"/fine.png", "/once.png", "/busy.png", "/reset.png", "/there.png"}
    for path in sound - {"/there.png"}:
        assert found[path].content == bodies[path]
    assert found["/there.png"].content == bodies["/fine.png"]
    reasons = {
        "/gone.png": r"status 404 Not Found (attempts: 1)",
        "/always.png": r"status 503 Service Unavailable (attempts: 2)",
        "/page.png": "HTML page instead of the file",
        "/disguised.png": "HTML page instead of the file",
        "/cut.png": "truncated",
        "/slow.png": "fell silent",
        "/loop.png": "redirect",
        "/text.png": "picture",
    }
    for path, reason in reasons.items():
        assert reason in found[path].failure, (path, found[path].failure)
    assert "same picture as row 1" in items[f"{urls[0]}#{len(urls) + 1}"].failure
    assert "neither http nor https" in items["ftp://host/a.png"].failure
    failures = pq.read_table(tmp_path / "kept" / "failures.parquet").to_pylist()
    assert {one["url"] for one in failures} == {server.url(path) for path in reasons}
    assert {one["reason"] for one in failures if one["url"].endswith("gone.png")} == {"status 404 Not Found"}


def test_a_second_run_asks_for_what_is_missing_alone(tmp_path: Path) -> None:
    with Loopback() as server:
        urls = [server.serve(f"/{k}.png", picture(k)) for k in range(6)]
        late = server.serve("/late.png", picture(9), status(404), whole())
        first = list(opened(tmp_path, [*urls, late]).items(workers=2))
        server.seen.clear()
        second = list(opened(tmp_path, [*urls, late]).items(workers=2))
        assert [one.path for one in server.seen] == ["/late.png"]
    assert first[:6] == second[:6]
    assert first[6].failure is not None
    assert second[6].content == picture(9)


def test_several_at_a_time_and_no_more_than_four_at_a_host(tmp_path: Path) -> None:
    with Loopback() as server:
        urls = [server.serve(f"/{k}.png", picture(k), whole(pause_s=0.03)) for k in range(24)]
        assert all(one.failure is None for one in opened(tmp_path, urls).items(workers=1))
        assert 1 < max(one.n_under_way for one in server.seen) <= 4


def test_a_consumer_that_goes_away_is_not_waited_for(tmp_path: Path) -> None:
    with Loopback() as server:
        urls = [server.serve("/0.png", picture(0))]
        urls += [server.serve(f"/{k}.png", picture(k), status(503)) for k in range(1, 9)]
        stream = opened(tmp_path, urls, retries=1000).items(workers=2)
        assert next(stream).content == picture(0)
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 10


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    with Loopback() as server:
        stated = server.serve("/a.png", picture(0))
        unstated = server.serve("/b.png", picture(1), truncated(1.0, honest=True))
        fine = server.serve("/c.png", picture(2)[:400])
        items = list(opened(tmp_path, [stated, unstated, fine], max_bytes=1000).items())
    for one in items[:2]:
        assert "the file is too large: over 1,000 bytes (attempts: 1)" in one.failure
    assert "too large" not in items[2].failure
    assert not list((tmp_path / "kept").rglob("*.part"))


def test_paths_and_addresses_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(picture(1))
    with Loopback() as server:
        items = list(opened(tmp_path, ["here.png", server.serve("/a.png", picture(2))]).items())
    assert [one.content for one in items] == [picture(1), picture(2)]
    assert items[0].item_id == "here.png"


def test_kept_pictures_can_be_named(tmp_path: Path) -> None:
    with Loopback() as server, KnownFiles(tmp_path / "known") as known:
        source = opened(tmp_path, [server.serve("/a.png", picture(2))])
        (one,) = source.items(reading=Reading(True, known))
        assert one.content is None
        assert one.reference.read(tmp_path) == picture(2)
        (again,) = opened(tmp_path, [one.item_id]).items(reading=Reading(True, known))
        assert again == one


def test_two_processes_do_not_fetch_into_one_folder(tmp_path: Path) -> None:
    with (
        Loopback() as server,
        fetching.PictureFetcher(tmp_path / "kept", 1.0, 0, 1000),
        pytest.raises(DataError, match="another process is fetching into"),
    ):
        list(opened(tmp_path, [server.serve("/a.png", picture(0))]).items())


def test_nothing_is_fetched_unasked(tmp_path: Path) -> None:
    with Loopback() as server:
        url = server.serve("/a.png", picture(0))
        (one,) = opened(tmp_path, [url], downloads=None).items()
        assert "--downloads DIR" in one.failure
        assert not server.seen
