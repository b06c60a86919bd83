"""Fetching against a real HTTP server that misbehaves; every picture is made here."""

import email.utils
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from loopback import (
    Act,
    Loopback,
    disguised_html,
    dropped,
    etag,
    html,
    redirect,
    silent,
    status,
    truncated,
    whole,
)
from PIL import Image

from deponij.pipeline.data.fetching import http
from deponij.pipeline.data.fetching.dataset import ANNOTATIONS, FetchReport, Pace, fetch_taco
from deponij.store.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[3]
FAST = Pace(per_host=4, backoff_s=0.01, backoff_cap_s=0.02, retry_after_cap_s=2.0)
SIZE_PX = (60, 40)


def picture(seed: int, size_px: tuple[int, int] = SIZE_PX, kind: str = "JPEG", exif: bytes = b"") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Loopback() as running:
        yield running


def offer(server: Loopback, pictures: dict[str, bytes], scripts: dict[str, list[Act]] | None = None) -> str:
    """Serve pictures and an annotation file like TACO's for them; its address."""
    scripts = scripts or {}
    images = []
    for index, (name, body) in enumerate(pictures.items()):
        url = server.serve(f"/{name}", body, *scripts.get(name, []))
        images.append(
            {
                "id": index,
                "width": SIZE_PX[0],
                "height": SIZE_PX[1],
                "file_name": name,
                "license": None,
                "flickr_url": url,
                "coco_url": None,
                "date_captured": None,
                "flickr_640_url": None,
            }
        )
    return annotate(server, images)


def annotate(server: Loopback, images: list[dict[str, object]]) -> str:
    coco = {"info": {}, "images": images, "annotations": [], "categories": [{"id": 0, "name": "Can"}]}
    return server.serve("/annotations.json", json.dumps(coco).encode())


def fetch(root: Path, url: str | None, **settings: object) -> FetchReport:
    settings = {"timeout_s": 5.0, "retries": 3, "pace": FAST, "workers": 4} | settings
    return fetch_taco(root, annotations=url, **settings)  # type: ignore[arg-type]


def reasons(root: Path) -> dict[str, str]:
    return {row["file_name"]: row["reason"] for row in pq.read_table(root / "failures.parquet").to_pylist()}


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if ".part" in path.name or path.name == ".fetch.lock")


def test_all_arrive_with_the_bytes_that_were_served(server: Loopback, tmp_path: Path) -> None:
    pictures = {f"batch_{n % 3}/{n:06}.JPG": picture(n, kind="PNG" if n % 2 else "JPEG") for n in range(8)}
    calls: list[tuple[int, int, int]] = []
    report = fetch(tmp_path / "taco", offer(server, pictures), progress=lambda *call: calls.append(call))
    assert (report.n_total, report.n_present, report.n_fetched, report.n_failed) == (8, 8, 8, 0)
    assert report.n_bytes == sum(map(len, pictures.values()))
    for name, body in pictures.items():
        assert (tmp_path / "taco" / name).read_bytes() == body
    assert (tmp_path / "taco" / ANNOTATIONS).read_bytes() == server.routes["/annotations.json"].body
    assert [call[:2] for call in calls] == [(n, 8) for n in range(1, 9)]
    assert calls[-1][2] == report.n_bytes
    assert leftovers(tmp_path) == []
    assert "8 of 8 photographs" in report.summary
    fetched = pq.read_table(tmp_path / "taco" / "fetched.parquet").to_pydict()
    assert fetched["file_name"] == sorted([ANNOTATIONS, *pictures])
    assert pq.read_table(tmp_path / "taco" / "failures.parquet").num_rows == 0


def test_a_second_run_asks_for_nothing_and_a_third_for_what_is_missing(
    server: Loopback, tmp_path: Path
) -> None:
    pictures = {f"batch_1/{n}.jpg": picture(n) for n in range(5)}
    url = offer(server, pictures)
    fetch(tmp_path, url)
    tables = {name: (tmp_path / name).read_bytes() for name in ("fetched.parquet", "failures.parquet")}
    server.seen.clear()
    again = fetch(tmp_path, url)
    assert (again.n_present, again.n_fetched, again.n_bytes) == (5, 0, 0)
    assert server.seen == []
    assert tables == {name: (tmp_path / name).read_bytes() for name in tables}
    (tmp_path / "batch_1/3.jpg").unlink()
    third = fetch(tmp_path, None)
    assert (third.n_present, third.n_fetched) == (5, 1)
    assert [request.path for request in server.seen] == ["/batch_1/3.jpg"]


@pytest.mark.parametrize(
    ("script", "n_requests"),
    [
        ([status(500), status(503), whole()], 3),
        ([status(429), whole()], 2),
        ([status(429, Retry_After="soon"), whole()], 2),
        ([dropped(), whole()], 2),
        ([dropped(ranges=False), whole(ranges=False)], 2),
        ([truncated(), whole()], 2),
        ([truncated(honest=True), whole()], 2),
        ([silent(10), whole()], 2),
        ([status(408), dropped(0.3), truncated(0.9), whole()], 4),
    ],
)
def test_what_passes_is_tried_again(
    server: Loopback, tmp_path: Path, script: list[Act], n_requests: int
) -> None:
    body = picture(1)
    report = fetch(tmp_path, offer(server, {"a.jpg": body}, {"a.jpg": script}), timeout_s=2)
    assert (report.n_fetched, report.n_failed) == (1, 0)
    assert (tmp_path / "a.jpg").read_bytes() == body
    assert len(server.asked("/a.jpg")) == n_requests
    assert leftovers(tmp_path) == []


BAD: dict[str, tuple[list[Act], bytes, int, str]] = {
    # name: script, body, requests, part of the reason
    "gone.jpg": ([status(404)], b"", 1, "status 404"),
    "gone_for_good.jpg": ([status(410)], b"", 1, "status 410"),
    "forbidden.jpg": ([status(403)], b"", 1, "status 403"),
    "page.jpg": ([html()], b"", 1, "HTML page"),
    "disguised.jpg": ([disguised_html()], b"", 1, "HTML page"),
    "small.jpg": ([whole()], picture(3, (30, 20)), 1, "30 x 20 px"),
    "turned.jpg": ([whole()], picture(3, SIZE_PX[::-1]), 1, "40 x 60 px"),
    "damaged.jpg": ([whole()], b"junk" * 50, 2, "not a picture"),
    "cut.jpg": ([whole()], picture(4)[:-900], 2, "cannot be decoded"),
    "failing.jpg": ([status(500)], b"", 4, "status 500"),
    "dropping.jpg": ([dropped(0.2, ranges=False)], picture(5), 4, "connection broken"),
    "silent.jpg": ([silent(10)], picture(6), 4, "time-out"),
    "empty.jpg": ([whole()], b"", 2, "empty"),
}


def test_what_stays_wrong_ends_in_the_failure_table_and_the_rest_arrives(
    server: Loopback, tmp_path: Path
) -> None:
    pictures = {name: body for name, (_, body, _, _) in BAD.items()} | {"good.jpg": picture(9)}
    url = offer(server, pictures, {name: script for name, (script, _, _, _) in BAD.items()})
    report = fetch(tmp_path, url, timeout_s=1.5, workers=8)
    table = {row["file_name"]: row for row in pq.read_table(tmp_path / "failures.parquet").to_pylist()}
    assert sorted(table) == sorted(BAD)
    for name, (_, _, n_requests, reason) in BAD.items():
        assert reason in table[name]["reason"], name
        assert table[name]["attempts"] == n_requests, name
        assert len(server.asked(f"/{name}")) == n_requests, name
        assert not (tmp_path / name).exists(), name
        assert table[name]["url"].endswith(name)
    assert (tmp_path / "good.jpg").is_file()
    assert (report.n_total, report.n_present, report.n_failed) == (len(BAD) + 1, 1, len(BAD))
    assert "zenodo.3587843" in report.summary
    assert "2 x the host sent an HTML page" in report.summary
    assert "for other reasons" in report.summary
    # What could be resumed may stay; pictures that were refused leave nothing.
    assert set(leftovers(tmp_path)) <= {"dropping.jpg.part", "dropping.jpg.part.json"}


def test_retry_after_in_seconds_holds_the_whole_host(server: Loopback, tmp_path: Path) -> None:
    pictures = {f"{n}.jpg": picture(n) for n in range(6)}
    scripts = {"0.jpg": [status(429, Retry_After="2"), whole()]} | {"1.jpg": [silent(1.0)]}
    report = fetch(tmp_path, offer(server, pictures, scripts), workers=2)
    assert report.n_fetched == 6
    first, second = server.asked("/0.jpg")
    assert 2.0 <= second.at_s - first.at_s < 60.0
    for n in range(2, 6):  # 1.jpg was under way when the host asked for the pause
        assert server.asked(f"/{n}.jpg")[0].at_s - first.at_s >= 1.99


def test_retry_after_as_a_date_is_honoured_and_a_long_one_capped(server: Loopback, tmp_path: Path) -> None:
    def later(handler: Any, body: bytes) -> None:
        date = email.utils.formatdate(time.time() + 3, usegmt=True)  # whole seconds: between 2 and 3 from now
        handler.head(503, 0, {"Retry-After": date})

    report = fetch(tmp_path, offer(server, {"a.jpg": picture(1)}, {"a.jpg": [later, whole()]}))
    first, second = server.asked("/a.jpg")
    assert report.n_fetched == 1
    assert 1.5 <= second.at_s - first.at_s < 60.0
    capped = Pace(backoff_s=0.01, retry_after_cap_s=0.2)
    url = offer(server, {"b.jpg": picture(2)}, {"b.jpg": [status(429, Retry_After="3600"), whole()]})
    report = fetch(tmp_path / "b", url, pace=capped)
    first, second = server.asked("/b.jpg")
    assert report.n_fetched == 1
    assert 0.2 <= second.at_s - first.at_s < 60.0


@pytest.mark.parametrize("dated", [False, True])
def test_a_dropped_transfer_goes_on_where_it_ended(server: Loopback, tmp_path: Path, dated: bool) -> None:
    body = picture(1, kind="PNG")
    partial = tmp_path / "a.jpg.part"
    validator = email.utils.formatdate(1_500_000_000, usegmt=True) if dated else etag(body)
    url = offer(server, {"a.jpg": body}, {"a.jpg": [whole(dated=dated)]})
    partial.write_bytes(body[:1000])
    Path(f"{partial}.json").write_text(json.dumps({"url": server.url("/a.jpg"), "validator": validator}))
    fetch(tmp_path, url)
    (request,) = server.asked("/a.jpg")
    assert (request.headers["Range"], request.headers["If-Range"]) == ("bytes=1000-", validator)
    assert (tmp_path / "a.jpg").read_bytes() == body


@pytest.mark.parametrize("kept", ["other url", "other validator", "no record", "torn record", "too long"])
def test_a_partial_file_that_does_not_belong_is_fetched_anew(
    server: Loopback, tmp_path: Path, kept: str
) -> None:
    body = picture(1, kind="PNG")
    url = offer(server, {"a.jpg": body})
    (tmp_path / "a.jpg.part").write_bytes(b"x" * (len(body) + 5 if kept == "too long" else 1000))
    record = {"url": server.url("/a.jpg"), "validator": etag(body)}
    if kept == "other url":
        record["url"] = server.url("/b.jpg")
    if kept == "other validator":
        record["validator"] = '"old"'
    text = json.dumps(record)
    if kept != "no record":
        (tmp_path / "a.jpg.part.json").write_text(text[:20] if kept == "torn record" else text)
    assert fetch(tmp_path, url).n_fetched == 1
    assert (tmp_path / "a.jpg").read_bytes() == body
    assert leftovers(tmp_path) == []
    first = server.asked("/a.jpg")[0]
    assert ("Range" in first.headers) == (kept in ("other validator", "too long"))


def test_a_host_may_send_a_file_in_slices(server: Loopback, tmp_path: Path) -> None:
    """Whole answers that hold less than was asked for; Content-Range tells."""
    body = picture(1, kind="PNG")

    def slices(handler: object, body: bytes) -> None:
        start = int(handler.headers["Range"][6:-1])  # type: ignore[attr-defined]
        part = body[start : start + len(body) // 3]
        span = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        handler.head(206, len(part), {"Content-Range": span, "ETag": etag(body)})  # type: ignore[attr-defined]
        handler.wfile.write(part)  # type: ignore[attr-defined]

    url = offer(server, {"a.jpg": body}, {"a.jpg": [dropped(0.3), slices]})  # type: ignore[list-item]
    assert fetch(tmp_path, url).n_fetched == 1
    assert (tmp_path / "a.jpg").read_bytes() == body
    assert len(server.asked("/a.jpg")) == 4


def test_a_rest_of_changed_content_is_not_joined_to_the_old_beginning(
    server: Loopback, tmp_path: Path
) -> None:
    """A server that ignores If-Range but tells the new ETag."""
    old, new = picture(1, kind="PNG"), picture(2, kind="PNG")

    def careless(handler: object, body: bytes) -> None:
        start = int(handler.headers["Range"][6:-1])  # type: ignore[attr-defined]
        headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": etag(body)}
        handler.head(206, len(body) - start, headers)  # type: ignore[attr-defined]
        handler.wfile.write(body[start:])  # type: ignore[attr-defined]

    url = offer(server, {"a.jpg": new}, {"a.jpg": [careless, whole()]})  # type: ignore[list-item]
    (tmp_path / "a.jpg.part").write_bytes(old[:500])
    record = {"url": server.url("/a.jpg"), "validator": etag(old)}
    (tmp_path / "a.jpg.part.json").write_text(json.dumps(record))
    fetch(tmp_path, url)
    assert (tmp_path / "a.jpg").read_bytes() == new


PROGRAM = """
import sys
from pathlib import Path
from deponij.pipeline.data.fetching.dataset import Pace, fetch_taco
fetch_taco(Path(sys.argv[1]), annotations=sys.argv[2], workers=2, timeout_s=20, pace=Pace(backoff_s=0.01))
"""


def test_killed_in_the_middle_and_run_again(server: Loopback, tmp_path: Path) -> None:
    pictures = {f"batch_1/{n}.jpg": picture(n, kind="PNG") for n in range(6)}
    url = offer(server, pictures)
    slow = whole(pause_s=1.0, pieces=10)
    for n in range(3, 6):
        server.routes[f"/batch_1/{n}.jpg"].script = (slow,)
    root = tmp_path / "taco"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, root, url], cwd=ROOT, env=os.environ)
    try:
        part = root / "batch_1/3.jpg.part"
        before = [root / f"batch_1/{n}.jpg" for n in range(3)]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (part.is_file() and part.stat().st_size > 500):
            time.sleep(0.01)
        while time.monotonic() < deadline and not all(path.is_file() for path in before):
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {name for name in pictures if (root / name).is_file()}
    assert kept == {"batch_1/0.jpg", "batch_1/1.jpg", "batch_1/2.jpg"}
    assert not (root / "batch_1/3.jpg").exists()
    n_kept = part.stat().st_size
    assert 500 < n_kept < len(pictures["batch_1/3.jpg"])

    for n in range(3, 6):
        server.routes[f"/batch_1/{n}.jpg"].script = (whole(),)
    server.seen.clear()
    report = fetch(root, url)
    assert (report.n_present, report.n_fetched, report.n_failed) == (6, 3, 0)
    assert {name: (root / name).read_bytes() for name in pictures} == pictures
    assert not {request.path for request in server.seen} & {f"/{name}" for name in kept}
    assert server.asked("/batch_1/3.jpg")[0].headers["Range"] == f"bytes={n_kept}-"
    assert leftovers(tmp_path) == []


def test_the_limit_takes_the_first_and_keeps_the_file_whole(server: Loopback, tmp_path: Path) -> None:
    pictures = {f"{n}.jpg": picture(n) for n in range(6)}
    url = offer(server, pictures)
    report = fetch(tmp_path, url, limit=2)
    assert (report.n_total, report.n_present) == (2, 2)
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["0.jpg", "1.jpg"]
    assert len(json.loads((tmp_path / ANNOTATIONS).read_text())["images"]) == 6
    assert fetch(tmp_path, url, limit=4).n_fetched == 2
    fetch(tmp_path, url, limit=1)
    recorded = pq.read_table(tmp_path / "fetched.parquet")["file_name"].to_pylist()
    assert recorded == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", ANNOTATIONS]
    with pytest.raises(UsageError, match="at least 1"):
        fetch(tmp_path, url, limit=0)


def test_a_host_is_asked_no_more_often_at_once_than_allowed(server: Loopback, tmp_path: Path) -> None:
    pictures = {f"{n}.jpg": picture(n) for n in range(12)}
    three, lock, under_way, n_seen = Barrier(3, timeout=60), Lock(), set(), []

    def held(handler: Any, body: bytes) -> None:
        with lock:
            under_way.add(handler)
            n_seen.append(len(under_way))
        three.wait()
        time.sleep(0.05)
        # Before the answer, which lets the next request come.
        with lock:
            under_way.remove(handler)
        whole()(handler, body)

    url = offer(server, pictures, {name: [held] for name in pictures})
    report = fetch(tmp_path, url, workers=10, timeout_s=60, pace=Pace(per_host=3))
    assert max(n_seen) == 3
    assert report.n_fetched == 12


def test_file_names_that_leave_the_folder_are_refused(server: Loopback, tmp_path: Path) -> None:
    root = tmp_path / "in" / "taco"
    root.mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    names = [
        "../out.jpg",
        "/tmp/out.jpg",
        "a/../../out.jpg",
        "link/out.jpg",
        "annotations.json",
        "x.part",
        "",
    ]
    url = server.serve("/p.jpg", picture(1))
    images: list[dict[str, object]] = [
        {"file_name": name, "width": SIZE_PX[0], "height": SIZE_PX[1], "flickr_url": url} for name in names
    ]
    images += [dict(images[0], file_name="ok.jpg"), dict(images[0], file_name="ok.jpg")]
    images += [dict(images[0], file_name="no url.jpg", flickr_url=None)]
    images += [dict(images[0], file_name="local.jpg", flickr_url="file:///etc/passwd")]
    report = fetch(root, annotate(server, images))
    assert (report.n_total, report.n_present, report.n_failed) == (11, 1, 10)
    assert len(server.asked("/p.jpg")) == 1
    assert not list(tmp_path.rglob("out.jpg"))
    assert "no address" in reasons(root)["no url.jpg"]
    assert "not an http" in reasons(root)["local.jpg"]


def test_pictures_that_lie_there_are_adopted_and_wrong_ones_moved_aside(
    server: Loopback, tmp_path: Path
) -> None:
    pictures = {f"{n}.jpg": picture(n) for n in range(3)}
    url = offer(server, pictures)
    other_encoding = picture(0, kind="PNG")
    (tmp_path / "0.jpg").write_bytes(other_encoding)  # as from the archive: the same size, other bytes
    (tmp_path / "1.jpg").write_bytes(picture(1, (10, 10)))
    report = fetch(tmp_path, url)
    assert (report.n_present, report.n_fetched) == (3, 2)
    assert (tmp_path / "0.jpg").read_bytes() == other_encoding
    assert (tmp_path / "1.jpg").read_bytes() == pictures["1.jpg"]
    assert (tmp_path / "1.jpg.refused").read_bytes() == picture(1, (10, 10))
    (tmp_path / "2.jpg").write_bytes(pictures["2.jpg"][:-900])  # damaged behind our back
    assert fetch(tmp_path, url).n_fetched == 1
    assert (tmp_path / "2.jpg").read_bytes() == pictures["2.jpg"]


def test_size_is_that_of_the_upright_picture(server: Loopback, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    lying = picture(1, SIZE_PX[::-1], exif=exif.tobytes())
    report = fetch(tmp_path, offer(server, {"a.jpg": lying}))
    assert report.n_fetched == 1
    assert (tmp_path / "a.jpg").read_bytes() == lying


def test_redirects_are_followed(server: Loopback, tmp_path: Path) -> None:
    server.serve("/elsewhere", picture(1))
    url = offer(server, {"a.jpg": b"", "loop.jpg": b""})
    server.serve("/a.jpg", b"", redirect("/elsewhere"))
    server.serve("/loop.jpg", b"", redirect("/loop.jpg"))
    assert fetch(tmp_path, url).n_fetched == 1
    assert "redirects" in reasons(tmp_path)["loop.jpg"]


def test_the_annotation_file_may_be_a_path_and_must_be_one(server: Loopback, tmp_path: Path) -> None:
    offer(server, {"a.jpg": picture(1)})
    body = server.routes["/annotations.json"].body
    (tmp_path / "mine.json").write_bytes(body)
    assert fetch(tmp_path / "taco", str(tmp_path / "mine.json")).n_fetched == 1
    assert (tmp_path / "taco" / ANNOTATIONS).read_bytes() == body
    with pytest.raises(DataError, match=r"cannot be read"):
        fetch(tmp_path / "b", str(tmp_path / "absent.json"))
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(DataError, match="not a COCO annotation file"):
        fetch(tmp_path / "c", str(tmp_path / "broken.json"))
    (tmp_path / "none.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="lists no images"):
        fetch(tmp_path / "d", str(tmp_path / "none.json"))
    (tmp_path / "nameless.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(DataError, match="image 0 needs file_name"):
        fetch(tmp_path / "e", str(tmp_path / "nameless.json"))


@pytest.mark.parametrize("act", [status(404), html()])
def test_no_annotation_file_names_the_ways_out(server: Loopback, tmp_path: Path, act: Act) -> None:
    url = server.serve("/annotations.json", b"", act)
    with pytest.raises(DataError, match=r"(?s)cannot be had.*put it at .*zenodo"):
        fetch(tmp_path, url)


def test_without_a_network_it_ends_early(server: Loopback, tmp_path: Path) -> None:
    with Loopback() as gone:
        dead = gone.url("/x.jpg")  # a port that nothing listens on once the server is closed
    began = time.monotonic()
    with pytest.raises(DataError, match="no connection"):
        fetch(tmp_path, dead, retries=50)
    images = [
        {"file_name": f"{n}.jpg", "width": 1, "height": 1, "flickr_url": dead.replace("x", str(n))}
        for n in range(200)
    ]
    report = fetch(tmp_path, annotate(server, images), retries=50)
    assert report.n_failed == 200
    assert time.monotonic() - began < 60
    assert (
        max(pq.read_table(tmp_path / "failures.parquet")["attempts"].to_pylist()) == 1 + http.CONNECT_RETRIES
    )
    given_up = [reason for reason in reasons(tmp_path).values() if "cannot be reached" in reason]
    assert len(given_up) > 150


def test_a_slow_trickle_is_broken_off(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "GRACE_S", 0.3)
    body = picture(1, kind="PNG")
    url = offer(server, {"a.jpg": body}, {"a.jpg": [whole(pause_s=0.1, pieces=100), whole()]})
    pace = Pace(backoff_s=0.01, min_bytes_per_s=1e6)
    assert fetch(tmp_path, url, pace=pace).n_fetched == 1
    assert "Range" in server.asked("/a.jpg")[1].headers


def test_a_full_disk_ends_the_run_with_one_clear_message(server: Loopback, tmp_path: Path) -> None:
    url = offer(server, {f"{n}.jpg": picture(n) for n in range(20)})
    (tmp_path / "5.jpg.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"no space left for .*5\.jpg"):
        fetch(tmp_path, url)
    (tmp_path / "5.jpg.part").unlink(missing_ok=True)
    assert fetch(tmp_path, url).n_present == 20


def test_a_folder_that_cannot_be_made_is_told(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        fetch(tmp_path / "file" / "taco", offer(server, {"a.jpg": picture(1)}))


def test_two_runs_do_not_meet_in_one_folder(server: Loopback, tmp_path: Path) -> None:
    url = offer(server, {"a.jpg": picture(1)}, {"a.jpg": [silent(60)]})
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path, url], cwd=ROOT, env=os.environ)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not server.asked("/a.jpg"):
            time.sleep(0.01)
        with pytest.raises(DataError, match="another process"):
            fetch(tmp_path, url)
    finally:
        process.kill()
        process.wait()


def test_the_stand_in_of_the_real_file_has_its_photographs(
    shared: Path, tmp_path: Path, server: Loopback
) -> None:
    """TACO's own annotation file, read as it is: 1,500 photographs on hosts of two kinds (protocols)."""
    source = shared / "data" / "taco" / "annotations.json"
    coco = json.loads(source.read_text())
    for image in coco["images"]:
        image["flickr_url"] = server.url("/" + image["file_name"])
    url = server.serve("/annotations.json", json.dumps(coco).encode())
    report = fetch(tmp_path, url, workers=4, pace=Pace(per_host=8), limit=None)
    assert (report.n_total, report.n_failed) == (1500, 1500)
    assert set(reasons(tmp_path).values()) == {"status 404 Not Found"}
