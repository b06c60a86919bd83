"""A small world for the tests of the command line: pictures, items, features, made by the commands themselves."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import fake_backbone
import numpy as np
import pytest
from PIL import Image

from deponij import cli

COLOURS = {"can": (200, 40, 40), "cup": (40, 200, 40), "lid": (40, 40, 200)}
N_PER_CLASS = 12
TRUNCATED = "cup/truncated.png"


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.out)


def call(*arguments: object) -> Answer:
    """Run `deponij` with these arguments in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv = ["deponij", *(str(one) for one in arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Answer(status, out.getvalue(), err.getvalue())


def done(*arguments: object, status: int = 0) -> Answer:
    """The same for a command that is meant to succeed."""
    answer = call(*arguments)
    assert answer.status == status, f"{arguments}: {answer}"
    return answer


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-30, 30, (20, 24, 3))
    return Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8))


def class_folders(root: Path) -> Path:
    """Three classes, told apart by colour; one picture of them is cut off in the middle."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir(parents=True)
        for i in range(N_PER_CLASS):
            picture(colour, 100 * number + i).save(root / name / f"{i:02}.png")
    content = (root / "cup" / "00.png").read_bytes()
    (root / TRUNCATED).write_bytes(content[: len(content) // 2])
    return root


def coco(root: Path, file_name: str = "a.png") -> Path:
    """Two photographs with two instances each; the first is called `file_name`. Gives the annotation file."""
    (root / "images").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png")):
        picture((90, 90, 90), number).save(root / "images" / name)
    document = {
        "images": [
            {"id": 1, "file_name": file_name, "width": 24, "height": 20},
            {"id": 2, "file_name": "b.png", "width": 24, "height": 20},
        ],
        "annotations": [
            {"id": i, "image_id": 1 + i // 2, "category_id": 1 + i % 2, "bbox": [2 + i, 3, 10, 9], "area": 90}
            for i in range(4)
        ],
        "categories": [
            {"id": 1, "name": "Can", "supercategory": "Metal"},
            {"id": 2, "name": "Bottle", "supercategory": "Plastic"},
        ],
    }
    (root / "annotations.json").write_text(json.dumps(document))
    return root / "annotations.json"


@dataclass(frozen=True)
class World:
    """Where everything lies."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / {
            "split": "split.parquet",
            "view": "view.h5",
            "texts": "texts.h5",
            "mute_view": "mute.h5",
        }.get(name, name)

    @property
    def learning(self) -> list[object]:
        """Flags that all learning commands share."""
        return ["--features", self.view, "--items", self.items, "--split", self.split, "--labels", "label"]


@contextmanager
def made(root: Path) -> Iterator[World]:
    """Class folders through items, split, extract and extract-text; the made-up family is known meanwhile."""
    world = World(root)
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        fake_backbone.make(world.words, seed=1)
        fake_backbone.make(world.mute, seed=2, has_text=False)
        class_folders(world.pictures)
        done("items", "--folder", world.pictures, "--out", world.items, status=3)
        done("split", "--items", world.items, "--out", world.split, "--strategy", "random")
        depot = ["--depot", world.depot]
        for model, view in ((world.words, world.view), (world.mute, world.mute_view)):
            done("extract", "--items", world.items, "--backbone", model, "--out", view, *depot, status=3)
        by_labels = ["--items", world.items, "--labels", "label"]
        done("extract-text", "--backbone", world.words, "--out", world.texts, *by_labels, *depot)
        yield world
