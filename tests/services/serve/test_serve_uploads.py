"""Pictures and bodies that are odd, broken or too large: what is refused, and what is seen as the index would see it."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import serve_world
from PIL import Image
from serve_world import ServeWorld

from deponij.project.frame.settings import RunOptions
from deponij.project.indexes import Index
from deponij.services.search.vectors import QueryEncoder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeWorld]:
    with serve_world.made(tmp_path_factory.mktemp("uploads")) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: ServeWorld) -> Iterator[Any]:
    with serve_world.client(world.wanted()) as found:
        yield found


def photograph(mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(5).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    return Image.fromarray(noise).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sixteen_bit() -> bytes:
    values = np.random.default_rng(6).integers(0, 65536, (40, 50)).astype(np.uint16)
    return saved(Image.fromarray(values), "PNG")


def animated() -> bytes:
    frames = [Image.new("RGB", (40, 40), (60 * n, 20, 20)) for n in range(4)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


GOOD = {
    "animated.gif": animated(),
    "cmyk.jpg": saved(photograph("CMYK"), "JPEG"),
    "sixteen.png": sixteen_bit(),
    "palette.png": saved(photograph("P"), "PNG"),
    "alpha.webp": saved(photograph("RGBA"), "WEBP"),
    "grey.tif": saved(photograph("L"), "TIFF"),
    "turned.jpg": saved(
        photograph(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    ),
}
# 81 million pixels in ten kilobytes.
BOMB = saved(Image.new("1", (9000, 9000)), "PNG")
BAD = {
    "a text": (b"hello", 400, "not_a_picture", "begin with"),
    "a page": (b"<!doctype html><script>alert(1)</script>", 400, "not_a_picture", "HTML"),
    "nothing": (b"", 422, "invalid", "value"),
    "a truncated one": (saved(photograph(), "PNG")[:900], 400, "not_a_picture", "cannot be decoded"),
    "a drawing": (
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        400,
        "not_a_picture",
        "",
    ),
    "a program in PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        400,
        "not_a_picture",
        "",
    ),
    "a bomb": (BOMB, 400, "picture_too_large", "9,000 x 9,000 pixels"),
    "too many bytes": (b"\x89PNG" + b"x" * 200_000, 413, "picture_too_large", "200,000 are allowed"),
}


def asked(client: Any, content: bytes, name: str = "x") -> Any:
    term = {"kind": "picture", "value": base64.b64encode(content).decode(), "name": name}
    return client.post("/api/search", json={"terms": [term], "top": 5})


@pytest.mark.parametrize("name", list(GOOD))
def test_odd_pictures_are_seen_as_the_index_sees_its_own(client: Any, world: ServeWorld, name: str) -> None:
    """Against the encoder of the command line."""
    index = Index.open(world.at.index("words"))
    vector = QueryEncoder(index, RunOptions(device="cpu", threads=1)).of_image(GOOD[name], name)
    expected = index.search(vector, 5)
    found = asked(client, GOOD[name]).json()["hits"]
    assert [hit["item_id"] for hit in found] == [hit.item_id for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)


@pytest.mark.parametrize("name", list(BAD))
def test_bad_pictures_are_refused_with_a_reason(client: Any, name: str) -> None:
    content, status, code, word = BAD[name]
    answer = asked(client, content, name)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert word in answer.json()["error"]["message"]
    if content:
        sent = client.post("/api/picture", files={"picture": (name, content)})
        assert (sent.status_code, sent.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("bad", ["a truncated one", "a text", "a page", "a bomb"])
def test_a_bad_picture_beside_good_ones_names_itself(client: Any, bad: str) -> None:
    terms = [
        {"kind": "picture", "value": base64.b64encode(content).decode(), "name": name}
        for name, content in (("good.png", GOOD["sixteen.png"]), ("bad.png", BAD[bad][0]))
    ]
    answer = client.post("/api/search", json={"terms": terms})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("bad.png: ")


def test_bodies_are_measured_before_they_are_read(client: Any) -> None:
    limit = client.service.limits.body_bytes
    headers = {"content-type": "application/json"}
    told = client.post("/api/search", content=b" " * (limit + 1), headers=headers)
    assert told.status_code == 413 and told.json()["error"]["code"] == "too_large"

    # Without a Content-Length.
    untold = client.post("/api/search", content=(b" " * 100_000 for _ in range(20)), headers=headers)
    assert untold.status_code == 413
    fits = client.post("/api/search", content=b"{}" + b" " * (limit - 2), headers=headers)
    assert fits.status_code == 200


@pytest.mark.parametrize(
    ("files", "data", "status"),
    [
        ({"picture": ("x.png", GOOD["palette.png"])}, {"top": "3", "unique": "true"}, 200),
        ({"picture": ("😀.png", GOOD["palette.png"])}, {"backbone": "mute"}, 200),
        ({"picture": ("x" * 5000, GOOD["palette.png"])}, {}, 400),
        ({"picture": ("x.png", GOOD["palette.png"])}, {"top": "0"}, 422),
        ({"picture": ("x.png", GOOD["palette.png"])}, {"top": "a"}, 422),
        ({"picture": ("x.png", GOOD["palette.png"])}, {"backbone": "nope"}, 404),
        ({"another": ("x.png", GOOD["palette.png"])}, {}, 422),
        ({}, {"picture": "words"}, 422),
    ],
)
def test_forms(client: Any, files: dict[str, Any], data: dict[str, str], status: int) -> None:
    answer = client.post("/api/picture", files=files, data=data)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert len(answer.json()["hits"]) == int(data.get("top", 24))


@pytest.mark.parametrize(
    "content", [b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"", b"\0" * 99]
)
def test_broken_forms(client: Any, content: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/picture", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"code", "message"}


def test_pictures_that_arrive_together_are_encoded_together(client: Any, world: ServeWorld) -> None:
    """Eight pictures of one query: at most a few forward passes, vectors as of each alone.

    The made-up model lets the other pictures of a batch change a row by a thousandth, hence the tolerance.
    """
    from concurrent.futures import ThreadPoolExecutor

    contents = [saved(Image.new("RGB", (30, 30), (15 * n, 90, 250 - 15 * n)), "PNG") for n in range(16)]
    index = Index.open(world.at.index("words"))
    encoder = QueryEncoder(index, RunOptions(device="cpu", threads=1))
    expected = [index.search(encoder.of_image(content, "x"), 1)[0].score for content in contents]

    def batches() -> tuple[float, float]:
        lines = client.get("/metrics").text.splitlines()
        name = 'deponij_encoder_batch_size_{}{{backbone="words",kind="picture"}}'
        return tuple(
            float(next(line.split()[-1] for line in lines if line.startswith(name.format(kind))))
            for kind in ("count", "sum")
        )

    n_calls, n_pictures = batches()
    # The one thread that encodes is held until all of them wait.
    go, until = threading.Event(), time.monotonic() + 60
    busy = client.service._computing.submit(go.wait, 60)
    with ThreadPoolExecutor(16) as clients:
        answers = [clients.submit(asked, client, content) for content in contents]
        while client.service.models["words"].n_waiting < 16 and time.monotonic() < until:
            time.sleep(0.005)
        go.set()
        found = [answer.result().json()["hits"][0]["score"] for answer in answers]
    assert busy.result()
    assert found == pytest.approx(expected, abs=2e-3)
    later = batches()
    assert later[1] - n_pictures == 16
    assert later[0] - n_calls <= 4
