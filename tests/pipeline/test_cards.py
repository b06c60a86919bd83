"""Folders of learned things: what is half there, damaged or old is never taken for whole."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from resealing import relist
from safetensors.numpy import load_file

from deponij.pipeline.cards import Card, CardFolder
from deponij.pipeline.record_lists import RecordList
from deponij.store.bundle import MANIFEST
from deponij.store.errors import StoreError
from deponij.store.sealed import sealed


class Spoon(Card):
    format: Literal[2] = 2
    length_px: int


SPOONS = CardFolder("spoon", "spoon", Spoon, newest=2)
BOWL = {"bowl": np.arange(6, dtype=np.float32).reshape(2, 3)}


def write(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    files = SPOONS.files(tensors, lambda sha256: Spoon(kind="soup", length_px=7, tensors_sha256=sha256))
    SPOONS.write(folder, files)


def test_what_was_written_is_read_and_other_tools_read_it(tmp_path: Path) -> None:
    write(tmp_path, BOWL)
    card, tensors = SPOONS.read(tmp_path, "soup")
    assert card.length_px == 7
    np.testing.assert_array_equal(tensors["bowl"], BOWL["bowl"])
    np.testing.assert_array_equal(load_file(tmp_path / "spoon.safetensors")["bowl"], BOWL["bowl"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, BOWL)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_tensors_of_an_earlier_one_do_not_stay(tmp_path: Path) -> None:
    write(tmp_path, BOWL)
    write(tmp_path, {})
    assert SPOONS.read(tmp_path, "soup")[1] == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "spoon.json"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there are no spoons in .*spoon\.json"):
        SPOONS.read(tmp_path, "soup")
    write(tmp_path, BOWL)
    with pytest.raises(StoreError, match="is of kind 'soup', not 'tea'"):
        SPOONS.read(tmp_path, "tea")
    (tmp_path / "spoon.safetensors").write_bytes(b"other")
    with pytest.raises(StoreError, match="spoon.safetensors is damaged or was edited"):
        SPOONS.read(tmp_path, "soup")
    relist(tmp_path)
    with pytest.raises(StoreError, match="is not the file that spoon.json was written for"):
        SPOONS.read(tmp_path, "soup")
    (tmp_path / "spoon.safetensors").unlink()
    with pytest.raises(StoreError, match="spoon.safetensors is missing"):
        SPOONS.read(tmp_path, "soup")
    path = tmp_path / "spoon.json"
    document = json.loads(path.read_text())
    for other, message in (
        ({**document, "format": 1}, "older version"),
        ({**document, "format": 3}, "newer format"),
        ({**document, "more": 1}, "damaged"),
    ):
        path.write_text(json.dumps(other))
        relist(tmp_path)
        with pytest.raises(StoreError, match=message):
            SPOONS.read_card(tmp_path)
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        relist(tmp_path)
        with pytest.raises(StoreError, match="damaged"):
            SPOONS.read_card(tmp_path)


def test_lists_of_records() -> None:
    records, spoon = RecordList(Spoon), Spoon(kind="a", length_px=1, tensors_sha256="")
    assert records.load(records.dump([spoon, spoon]), "x.json") == [spoon, spoon]
    for damaged, said in ((b"[{}]", "has no 'checksum'"), (b"[", "is damaged"), (b"{}", "has no 'checksum'")):
        with pytest.raises(StoreError, match=rf"x\.json {said}"):
            records.load(damaged, "x.json")
    with pytest.raises(
        StoreError, match=r"x\.json is of another version: 0\.kind: Field required \(and 2 more\)"
    ):
        records.load(sealed({"records": [{}]}), "x.json")
