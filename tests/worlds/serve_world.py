"""A small run to be served: photographs with instances of three colours, two made-up backbones, texts, indexes, a map.

Ids hold blanks, slashes, `#` and letters beyond ASCII.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pytest
import yaml
from cli_world import COLOURS, done
from PIL import Image

from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.services.serve.app import create_app
from deponij.services.serve.counters import Counters
from deponij.services.serve.guards import allowed_names
from deponij.services.serve.limits import Limits
from deponij.services.serve.service import Service, ServiceOptions
from deponij.services.serve.setup import ServeRequest, make_service
from deponij.store.sealed import sealed

ROOT = Path(__file__).resolve().parents[2]
N_PHOTOGRAPHS, SIDE_PX = 6, 24
SIZE_PX = (120, 80)


@dataclass(frozen=True)
class ServeWorld:
    """Where everything lies. specs: of the two backbones."""

    root: Path

    @property
    def at(self) -> Layout:
        """The run's layout."""
        return Layout(self.root / "runs" / "tiny")

    @property
    def images(self) -> Path:
        """Folder of the photographs."""
        return self.root / "images"

    def wanted(self, **changes: Any) -> ServeRequest:
        """What is served: both indexes, words first."""
        plain: dict[str, Any] = {
            "indexes": (self.at.index("words"), self.at.index("mute")),
            "images": self.images,
            "run": RunOptions(device="cpu", threads=1),
            "service": ServiceOptions("Tiny", limits=Limits(upload_bytes=200_000)),
        }
        return ServeRequest(**(plain | changes))


def draw(root: Path) -> Path:
    """The photographs and their annotation file."""
    classes = list(COLOURS)
    images, annotations = [], []
    for number in range(N_PHOTOGRAPHS):
        name = f"batch {number % 2}/Übung {number}.png"
        pixels = np.random.default_rng(number).integers(0, 60, (SIZE_PX[1], SIZE_PX[0], 3))
        for place in range(4):
            code = (number + place) % 3
            x, y = 8 + 27 * place, 10 + 5 * number
            noise = np.random.default_rng(100 * number + place).integers(-35, 35, (SIDE_PX, SIDE_PX, 3))
            pixels[y : y + SIDE_PX, x : x + SIDE_PX] = np.array(COLOURS[classes[code]]) + noise
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": code + 1,
                    "bbox": [x, y, SIDE_PX, SIDE_PX],
                    "area": SIDE_PX**2,
                }
            )
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        images.append({"id": number + 1, "file_name": name, "width": SIZE_PX[0], "height": SIZE_PX[1]})
    categories = [
        {"id": i + 1, "name": name, "supercategory": "round" if name != "lid" else "flat"}
        for i, name in enumerate(classes)
    ]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(document))
    return root / "annotations.json"


@contextmanager
def made(root: Path) -> Iterator[ServeWorld]:
    """The run; the made-up family of models is known meanwhile."""
    world = ServeWorld(root)
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        depot, at = ["--depot", root / "depot"], world.at
        done("crop", "--coco", draw(root), "--images", world.images, "--out", at.items)
        for name, has_text in (("words", True), ("mute", False)):
            spec = fake_backbone.make(root / "models" / name, seed=len(name), has_text=has_text)
            view = ["--items", at.items, "--backbone", spec, "--out", at.view(name)]
            done("extract", *view, *depot)
            done("index", "--features", at.view(name), "--items", at.items, "--out", at.index(name))
            at.weights.mkdir(exist_ok=True)
            record = {"spec": str(spec), "text_dim": 6 if has_text else None}
            (at.weights / f"{name}.json").write_bytes(sealed({"toy": False, **record}))
        texts = ["--items", at.items, "--labels", "category", "--out", at.texts("words")]
        done("extract-text", "--backbone", root / "models" / "words", *texts, *depot)
        done("map", "--features", at.view("words"), "--out", at.map("words"))
        profile = {
            "profile": "tiny",
            "data": {"adapter": "coco", "root": str(root), "options": {"images": str(world.images)}},
            "labels": ["category"],
            "backbones": {"mute": {}, "words": {}},
        }
        (root / "params.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
        yield world


@contextmanager
def client(wanted: ServeRequest, *, loaded: bool = True) -> Iterator[Any]:
    """A client of the application, without sockets; `client.service` is what it asks. loaded: wait for the models."""
    from starlette.testclient import TestClient

    counters = Counters()
    service = make_service(wanted, counters)
    app = create_app(service, counters, allowed_names("127.0.0.1"))
    with TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as found:
        found.service = service
        if loaded:
            wait_for(service)
        yield found


@contextmanager
def listening(wanted: ServeRequest) -> Iterator[str]:
    """The application on a port of loopback, in a thread of this process, its models loaded; its address."""
    import uvicorn

    counters = Counters()
    service = make_service(wanted, counters)
    app = create_app(service, counters, allowed_names("127.0.0.1"))
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    wait_for(service)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def wait_for(service: Service, timeout_s: float = 60.0) -> None:
    """Until no model is being loaded."""
    until = time.monotonic() + timeout_s
    while service.is_loading and time.monotonic() < until:
        time.sleep(0.01)
    assert not service.is_loading


_DRIVER = """
import fake_backbone, cli
with fake_backbone.registered():
    cli.main()
"""


class Running:
    """A server process of the world; its standard error is kept."""

    def __init__(self, world: ServeWorld, *arguments: object) -> None:
        command = [sys.executable, "-c", _DRIVER, "serve", *map(str, arguments)]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "worlds")])
        cache = {"DEPONIJ_CACHE": str(world.root / "cache"), "DEPONIJ_DEVICE": "cpu", "DEPONIJ_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=world.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **cache, "PYTHONPATH": paths},
        )
        self.url = ""
        self.err: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.err.extend(self.process.stderr)

    def listening(self, timeout_s: float = 60.0) -> "Running":
        """Wait for the line with its address."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.startswith("of "):
            # Which run is served.
            line = self.process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, self.ended(timeout_s), self.err)
        self.url = line.split()[0]
        return self

    def ready(self, timeout_s: float = 60.0) -> "Running":
        """Wait for its models."""
        self.listening()
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if json.loads(self.get("/api/health"))["status"] == "ok":
                return self
            time.sleep(0.1)
        raise AssertionError("the models were not loaded in time")

    def get(self, path: str) -> bytes:
        """Body of an answer."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def ended(self, timeout_s: float = 30.0) -> int:
        """Its exit status."""
        status = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return status


@contextmanager
def running(world: ServeWorld, *arguments: object) -> Iterator[Running]:
    """A server process, killed at the end if it still runs."""
    found = Running(world, *arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.ended()
        assert found.process.stdout is not None
        assert found.process.stderr is not None
        found.process.stdout.close()
        found.process.stderr.close()
