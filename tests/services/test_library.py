"""`import deponij`: what it offers, that it costs nothing, and what it says of wrong names."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import numpy as np
import pandas as pd
import pytest
import torch
from cli_world import N_PER_CLASS, TRUNCATED, World

import deponij
from deponij.project.frame.layout import Layout
from deponij.store.atomic import read_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def run(world: World) -> deponij.Run:
    """The world's files, laid out as a run's."""
    at = Layout(world.root / "runs" / "small")
    for path, place in (
        (world.items, at.items),
        (world.split, at.split("random")),
        (world.view, at.view("words")),
        (world.mute_view, at.view("mute")),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    return deponij.open_run(at.root)


def test_importing_it_is_instant_and_brings_nothing_in() -> None:
    code = "import sys, typing, importlib; before = set(sys.modules); import deponij; print(*(set(sys.modules) - before))"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["deponij"]


def test_every_name_is_there_and_no_other() -> None:
    for name in deponij.__all__:
        assert getattr(deponij, name) is not None
    assert set(deponij.__all__) <= set(dir(deponij))
    with pytest.raises(AttributeError, match="no attribute 'open_rum'"):
        deponij.open_rum  # type: ignore[attr-defined]  # noqa: B018


def test_examples_are_joined_by_id(world: World, run: deponij.Run) -> None:
    X, y, ids = train = run.examples("words", part="train")
    parts = read_table(world.split, ["item_id", "part"]).to_pydict()
    part_of = dict(zip(parts["item_id"], parts["part"], strict=True))
    view = deponij.View(world.view)
    assert [part_of[item_id] for item_id in ids] == ["train"] * len(train.ids)
    # The label of a class folder's picture is the folder's name.
    assert y.tolist() == [item_id.partition("/")[0] for item_id in ids.tolist()]
    np.testing.assert_array_equal(X, view.read(ids.tolist()))
    everything = run.examples("words", labels="label", split="random")
    assert len(everything.ids) == 3 * N_PER_CLASS
    assert TRUNCATED not in everything.ids
    assert [part_of[item_id] for item_id in everything.ids.tolist()] == everything.parts.tolist()
    assert sum(len(run.examples("words", part=part).ids) for part in ("train", "val", "test")) == len(
        everything.ids
    )


def test_backbones_stand_side_by_side(run: deponij.Run) -> None:
    both = run.examples("words", "mute").X
    np.testing.assert_array_equal(
        both, np.concatenate([run.examples("words").X, run.examples("mute").X], axis=1)
    )


def test_frames_and_a_torch_data_set(run: deponij.Run) -> None:
    train = run.examples("words", part="train")
    frame = train.frame()
    assert frame.index.tolist() == train.ids.tolist()
    assert frame["label"].tolist() == train.y.tolist()
    np.testing.assert_array_equal(frame.filter(regex=r"^x\d+$").to_numpy(), train.X)
    data = train.dataset()
    vector, number = data[3]
    assert len(data) == len(train.ids)
    assert torch.equal(vector, torch.from_numpy(train.X[3]))
    assert train.classes[number] == train.y[3]
    everything = run.frame()
    assert everything.loc[TRUNCATED, "failure"]
    assert pd.isna(everything.loc[TRUNCATED, "split_random"])
    assert (everything.loc[train.ids, "split_random"] == "train").all()
    assert "image" not in everything


def test_classes_are_numbered_alike_in_all_parts(world: World, run: deponij.Run, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = Layout(tmp_path / "run")
    for path, place in ((world.items, at.items), (world.view, at.view("words"))):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    ids = run.examples("words").ids.tolist()
    # No can is in the test part.
    rows = {"item_id": ids, "part": ["train" if name.startswith("can/") else "test" for name in ids]}
    at.split("odd").parent.mkdir(parents=True)
    pq.write_table(pa.table(rows), at.split("odd"))
    test = deponij.open_run(at.root).examples("words", part="test")
    assert test.classes == ("can", "cup", "lid")
    assert set(test.codes.tolist()) == {1, 2}
    with pytest.raises(deponij.DeponijError, match="no val item"):
        deponij.open_run(at.root).examples("words", part="val")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda run: run.examples(), "2 backbones with features, name one: mute, words"),
        (lambda run: run.examples("wordz"), "'wordz'. Did you mean 'words'"),
        (lambda run: run.examples("words", part="training"), "Known: train, val, test"),
        (lambda run: run.examples("words", split="group"), "unknown split 'group'.* Known: random"),
        (lambda run: run.examples("words", labels="lable"), "no column 'lable'; they have: .*label"),
        (lambda run: run.index("word"), "Did you mean 'words'"),
        (lambda run: deponij.open_run(run.layout.root.parent / "smal"), "there is: .*small"),
        (lambda run: deponij.open_run(run.layout.root.parent), "there is: .*small"),
        (lambda run: deponij.open_index(run.layout.root), "index"),
        (lambda run: deponij.load_backbone("mini-clip"), "unknown backbone"),
        (lambda run: deponij.load_backbone("mini-openclip", device="gpu"), "cpu.*cuda"),
        (lambda run: deponij.make_items("x", "folders"), "Did you mean 'folder'"),
    ],
)
def test_wrong_names_are_told_what_there_is(
    run: deponij.Run, asked: Callable[[deponij.Run], Any], told: str
) -> None:
    with pytest.raises(deponij.DeponijError, match=f"(?s){told}"):
        asked(run)


def test_a_folder_of_pictures_to_search_in_five_lines(world: World, tmp_path: Path) -> None:
    items = deponij.make_items(tmp_path / "items", "folder", folder=world.pictures)
    view = deponij.extract(items, str(world.words), tmp_path / "view.h5", depot=tmp_path / "depot")
    index = deponij.Index.of(view, items)
    hits = index.search(index.vectors(["can/00.png"])[0], top=5)
    rows = deponij.FeatureStore(tmp_path / "depot").read(view.keys.tolist(), view.identity)["embedding"]
    assert {hit.item_id: hit.score for hit in hits}["can/00.png"] == pytest.approx(1)
    np.testing.assert_array_equal(rows, view.embedding)
    assert [item_id for item_id, _ in items.failures] == [TRUNCATED]
    # A second time the depot knows all; a folder is taken as well as open items.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "depot").rglob("*.h5")}
    again = deponij.extract(tmp_path / "items", str(world.words), tmp_path / "b.h5", depot=tmp_path / "depot")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "depot").rglob("*.h5")} == before
    np.testing.assert_array_equal(again.embedding, view.embedding)


def test_wrong_parameters_of_an_extraction_are_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(deponij.DeponijError, match="precision"):
        deponij.extract(world.items, str(world.words), tmp_path / "v.h5", precision="fp64")
    with pytest.raises(deponij.DeponijError, match="workers"):
        deponij.extract(world.items, str(world.words), tmp_path / "v.h5", workers=-1)
    assert not list(tmp_path.iterdir())


def test_dense_views_come_with_their_depot(world: World, tmp_path: Path) -> None:
    view = deponij.extract(
        world.items, str(world.words), tmp_path / "v.h5", depot=tmp_path / "depot", kind="dense@1"
    )
    maps = view.maps(view.ids[:2].tolist())
    assert [values.shape[0] for values in maps.values()] == [2]


def test_a_backbone_embeds_words(world: World) -> None:
    backbone = deponij.load_backbone(str(world.words), device="cpu")
    assert backbone.embed_texts(["a can", "a cup"]).shape == (2, fake_backbone.DIM)


def test_without_pandas_the_error_says_so(run: deponij.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(deponij.DeponijError, match="pip install pandas"):
        run.frame()
