"""A project with an index, a server over it, and a tab of a browser on that: what the tests of the page share.

Photographs with coloured rectangles, so that what is alike has one class. One class is called like an attack
on the page. The server is a process of its own, started as a user starts it, with port 0.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pytest
from cli_world import done
from PIL import Image, ImageDraw

from deponij.project.frame.layout import Layout
from deponij.store.sealed import sealed

ROOT = Path(__file__).resolve().parents[2]
DESKTOP, PHONE = (1280, 900), (390, 844)
ATTACK = "<img src=x onerror=alert(1)>"
COLOURS = {"can": (200, 40, 40), "cup": (40, 200, 40), "lid": (40, 40, 200), ATTACK: (210, 200, 40)}
N_PHOTOGRAPHS, SIZE_PX, BOX_PX = 26, (160, 120), (36, 44)
SERVER = """
import fake_backbone, cli
with fake_backbone.registered():
    cli.main()
"""


def photographs(root: Path) -> Path:
    """Noise with three coloured rectangles each; every fifth has one of the fourth class. Gives the COCO file."""
    (root / "images").mkdir(parents=True)
    names = list(COLOURS)
    annotations: list[dict[str, Any]] = []
    for number in range(N_PHOTOGRAPHS):
        noise = np.random.default_rng(number).integers(60, 120, (SIZE_PX[1], SIZE_PX[0], 3), np.uint8)
        image = Image.fromarray(noise)
        for place, name in enumerate([*names[:3], *(names[3:] if number % 5 == 0 else [])]):
            x, y = 4 + 39 * place, 8 + (7 * number + 13 * place) % 60
            colour = tuple(np.clip(np.array(COLOURS[name]) + number % 7 * 5 - 15, 0, 255).tolist())
            ImageDraw.Draw(image).rectangle((x, y, x + BOX_PX[0] - 1, y + BOX_PX[1] - 1), colour)
            annotations.append({"id": len(annotations), "image_id": number, "category_id": names.index(name),
                                "bbox": [x, y, *BOX_PX], "area": BOX_PX[0] * BOX_PX[1]})  # fmt: skip
        image.save(root / "images" / f"{number:02}.png")
    document = {
        "images": [
            {"id": n, "file_name": f"{n:02}.png", "width": SIZE_PX[0], "height": SIZE_PX[1]}
            for n in range(N_PHOTOGRAPHS)
        ],
        "annotations": annotations,
        "categories": [
            {"id": n, "name": name, "supercategory": "metal" if name == "can" else "other"}
            for n, name in enumerate(names)
        ],
    }
    (root / "annotations.json").write_text(json.dumps(document))
    return root / "annotations.json"


@contextmanager
def made(root: Path) -> Iterator[Layout]:
    """A run of a profile `tiny` with two backbones, one of which reads words; `root` is the project's folder."""
    at = Layout(root / "runs" / "tiny")
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        annotations = photographs(root / "data")
        images = annotations.parent / "images"
        done("crop", "--coco", annotations, "--images", images, "--out", at.items)
        depot = ["--depot", root / "depot"]
        for name, has_text in (("words", True), ("mute", False)):
            spec = fake_backbone.make(root / name, seed=1 + has_text, has_text=has_text)
            done("extract", "--items", at.items, "--backbone", spec, "--out", at.view(name), *depot)
            done("index", "--features", at.view(name), "--items", at.items, "--out", at.index(name))
            done("map", "--features", at.view(name), "--out", at.root / "maps" / f"{name}.parquet")
            at.weights.mkdir(exist_ok=True)
            (at.weights / f"{name}.json").write_bytes(sealed({"spec": str(spec), "toy": False}))
        labels = ["--items", at.items, "--labels", "category"]
        done("extract-text", "--backbone", root / "words", "--out", at.texts("words"), *labels, *depot)
        options = {"annotations": str(annotations), "images": str(images)}
        (root / "params.yaml").write_text(json.dumps({
            "profile": "tiny",
            "data": {"adapter": "coco", "root": str(annotations.parent), "options": options},
            "labels": ["category", "supercategory"],
            "backbones": {"words": {}, "mute": {}},
            "text_backbones": ["words"],
        }))  # fmt: skip
        yield at


@contextmanager
def served(root: Path) -> Iterator[str]:
    """A server over the project in `root`, stopped as a user stops it; its address."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "worlds")))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, "serve", "--port", "0"],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": paths,
            "DEPONIJ_CACHE": str(root / "cache"),
            "DEPONIJ_DEPOT": str(root / "depot"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield listening(process)
    finally:
        process.terminate()
        process.wait(20)


def listening(process: "subprocess.Popen[str]") -> str:
    """The address, once it is printed. Ends when the server does; one that hangs is killed."""
    assert process.stdout is not None
    impatience = threading.Timer(120, process.kill)
    impatience.start()
    try:
        said = ""
        # Lines, not select on the pipe: two lines that arrive together lie in the reader's buffer, where
        # select does not see the second.
        for line in process.stdout:
            said += line
            if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                return match[0]
        raise AssertionError(f"the server did not start: {said}")
    finally:
        impatience.cancel()


class Tab:
    """One tab that keeps what the page said and asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        width, height = options.pop("size", DESKTOP)
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.context.set_default_timeout(15_000)
        self.page, self.address = self.context.new_page(), address
        self.said: list[str] = []
        self.asked: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", self._dismiss)
        self.go("/")

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def go(self, path: str) -> None:
        """To an address of the server; ready when the first answer stands there."""
        self.page.goto(self.address + path)
        self.until(
            "document.querySelector('#count').textContent || !document.querySelector('#advice').hidden"
        )
        self.settled()

    def revisit(self) -> None:
        """What is shown, from its address alone; a reload would keep the state beside it."""
        path = self.page.url.removeprefix(self.address)
        self.page.goto("about:blank")
        self.go(path)

    def until(self, condition: str, arg: object = None) -> None:
        """Wait for a condition; the page's own policy forbids Playwright's way, which evaluates text in it."""
        end = time.monotonic() + 15
        while not self.page.evaluate(condition, arg):
            assert time.monotonic() < end, f"in vain: {condition}"
            self.page.wait_for_timeout(20)

    def settled(self) -> None:
        """Wait until the answer stands on the page."""
        self.until("!document.querySelector('#results').hasAttribute('aria-busy')")

    def there_and_back(self) -> None:
        """One request of the page's own and its answer: a search that it had asked for before is seen by then."""
        self.page.evaluate("fetch('/api/about').then((one) => one.json())")

    @property
    def n_searches(self) -> int:
        """How often the server was asked to search; thumbnails and the map come whenever they do."""
        return sum(url.endswith("/api/search") for url in self.asked)

    def ask(self, words: str) -> Any:
        """Type words and press Enter; the server's answer."""
        self.page.fill("#words", words)
        return self.answer(lambda: self.page.press("#words", "Enter"))

    def answer(self, act: Callable[[], object]) -> Any:
        """Do something that asks the server; its answer, which then stands on the page."""
        with self.page.expect_response("**/api/search") as found:
            act()
        answer = found.value.json()
        self.settled()
        return answer

    @property
    def ids(self) -> list[str]:
        """Items on the page, in order."""
        found: list[str] = self.page.eval_on_selector_all(
            "#hits > li.card:not(.skeleton)", "all => all.map((card) => card.dataset.id)"
        )
        return found

    @property
    def labels(self) -> list[str]:
        return self.page.locator("#hits .label").all_inner_texts()  # type: ignore[no-any-return]

    @property
    def terms(self) -> list[tuple[str, str]]:
        """Signs and words of the question's parts."""
        rows = self.page.locator("#terms .chip").all()
        return [
            (row.locator(".sign").inner_text(), row.locator(".words, .name").inner_text()) for row in rows
        ]

    def count(self) -> str:
        return self.page.inner_text("#count")  # type: ignore[no-any-return]
