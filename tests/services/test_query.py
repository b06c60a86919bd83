"""`deponij index` and `deponij query` from end to end, with a made-up backbone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_world import World, call, done
from PIL import Image

from deponij.pipeline.unit_vectors import unit
from deponij.services.search.query import parse_term
from deponij.services.search.vectors import Term, read_vector
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.sealed import sealed
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("query")) as world:
        for view, out in ((world.view, "index"), (world.mute_view, "mute_index")):
            done(
                *("index", "--features", view, "--items", world.items, "--out", world.root / out),
                *("--split", world.split, "--latency", world.root / f"{out}-report.json"),
            )
        yield world


def ask(world: World, *arguments: object, index: str = "index", spec: Path | None = None) -> Any:
    return done("query", *arguments, *flags(world, index, spec), "--json").json


def flags(world: World, index: str = "index", spec: Path | None = None) -> list[object]:
    return ["--index", world.root / index, "--backbone-spec", spec or world.words, "--depot", world.depot]


def brute(world: World, vector: np.ndarray, k: int) -> list[float]:
    """The k highest cosines with everything in the view, by NumPy."""
    rows = unit(View(world.view).embedding).astype(np.float64)
    return sorted((rows @ unit(vector[None])[0]).tolist(), reverse=True)[:k]


def test_index_reports_and_verifies(world: World) -> None:
    numbers = json.loads((world.root / "index-report.json").read_text())
    assert numbers["kind"] == "flat" and numbers["recall_at_10"] == 1.0
    assert set(numbers["measured"][0]) >= {"p50_ms", "p99_ms", "recall_at_10", "effort"}
    found = done("index", "verify", world.root / "index", "--json").json
    assert found["problems"] == [] and found["n"] == len(View(world.view))
    assert "sound" in done("index", "verify", world.root / "index").out
    assert call("index", "--features", world.view).status == 2
    assert call("index", "verify", world.root / "nothing").status == 1


def test_a_damaged_index_fails_verify(world: World, tmp_path: Path) -> None:
    report = ["index", "--features", world.view, "--items", world.items, "--out", tmp_path / "x"]
    done(*report)
    (path,) = (tmp_path / "x").glob("*.faiss")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    answer = call("index", "verify", tmp_path / "x")
    assert answer.status == 1 and "damaged" in answer.out


def test_an_item_finds_itself_first_and_with_others_only_its_like(world: World) -> None:
    view = View(world.view)
    item_id = str(view.ids[4])
    rows = ask(world, "item", item_id, "--top", 5)
    assert rows[0]["score"] == pytest.approx(1)
    # The tiny model tells some pictures apart by less than rounding, which differs between processors.
    assert item_id in {row["item_id"] for row in rows if row["score"] > rows[0]["score"] - 1e-6}
    assert [row["score"] for row in rows] == pytest.approx(brute(world, view.embedding[4], 5), abs=2e-6)
    assert list(rows[0])[:3] == ["item_id", "key", "score"]
    assert {"label", "width_px", "split_split"} <= set(rows[0])
    others = ask(world, "item", item_id, "--top", 4, "--others")
    assert [row["item_id"] for row in others] == [row["item_id"] for row in rows if row["item_id"] != item_id]


def test_a_picture_is_seen_as_the_index_saw_its_items(world: World) -> None:
    item_id = next(i for i in View(world.view).ids.tolist() if i.startswith("lid"))
    path = world.root / "asked.png"
    path.write_bytes(Items(world.items).content(item_id))
    rows = ask(world, "image", path, "--top", 3)
    # The made-up model lets the other pictures of a batch change a row by a thousandth.
    expected = brute(world, View(world.view).read([item_id])[0], 3)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-3)
    assert {row["label"] for row in rows} == {"lid"}


def test_stored_words_and_computed_words_are_one_vector(world: World) -> None:
    texts = View(world.texts)
    place = (
        texts.columns["text"].tolist().index("a photo of a can.")
        if "a photo of a can." in texts.columns["text"]
        else 0
    )
    text = str(texts.columns["text"][place])
    expected = pytest.approx(brute(world, texts.embedding[place], 4), abs=1e-5)
    stored = ask(world, "text", text, "--top", 4, "--texts", world.texts)
    assert [row["score"] for row in stored] == expected
    from_depot = ask(world, "text", text, "--top", 4)
    assert from_depot == stored
    elsewhere = [
        "--index",
        world.root / "index",
        "--backbone-spec",
        world.words,
        "--depot",
        world.root / "none",
    ]
    computed = done("query", "text", text, "--top", 4, *elsewhere, "--json").json
    assert [row["score"] for row in computed] == expected


def test_stored_words_need_no_torch(world: World) -> None:
    text = str(View(world.texts).columns["text"][0])
    code = """
import sys, cli
code, sys.argv = 0, ["deponij", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    code = end.code or 0
heavy = {"torch", "open_clip", "transformers", "timm", "torchvision"} & set(sys.modules)
sys.stderr.write("HEAVY " + ",".join(sorted(heavy)))
raise SystemExit(code)
"""
    arguments = ["query", "text", text, "--index", world.root / "index", "--depot", world.depot, "--json"]
    done_run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        check=False,
    )
    assert done_run.returncode == 0, done_run.stderr
    assert len(json.loads(done_run.stdout)) == 10
    assert done_run.stderr.endswith("HEAVY ")


def test_words_to_a_backbone_without_a_text_tower(world: World) -> None:
    answer = call("query", "text", "can", *flags(world, "mute_index", world.mute))
    assert answer.status == 1
    assert "has no text tower" in answer.err and "siglip" in answer.err and "dinov2" not in answer.err


def test_another_backbone_than_the_indexs_is_refused(world: World) -> None:
    picture = world.root / "one.png"
    cli_world.picture((200, 40, 40), 1).save(picture)
    named = ["--index", world.root / "index", "--backbone"]
    assert call("query", "image", picture, *named, world.words).status == 0
    assert call("query", "image", picture, *named, world.mute).status == 1
    for arguments in (["image", picture], ["text", "something new"]):
        answer = call("query", *arguments, *flags(world, "index", world.mute))
        assert answer.status == 1
        assert "was not encoded as the index" in answer.err and "weights: " in answer.err


def test_plus_minus_and_weights_are_one_sum(world: World) -> None:
    view = View(world.view)
    a, b, c = (str(view.ids[n]) for n in (0, 12, 24))
    rows = ask(world, "item", a, "--weight", 2, "--plus", f"0.5*item:{b}", "--minus", f"item:{c}", "--top", 6)
    units = unit(view.embedding).astype(np.float64)
    expected = brute(world, 2 * units[0] + 0.5 * units[12] - units[24], 6)
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=2e-6)
    answer = call("query", "item", a, "--minus", f"item:{a}", *flags(world))
    assert answer.status == 2 and "cancel" in answer.err


def test_vectors_from_files(world: World, tmp_path: Path) -> None:
    view = View(world.view)
    np.save(tmp_path / "a.npy", view.embedding[3])
    identity = json.loads(view.identity.to_json())
    (tmp_path / "b.json").write_text(json.dumps({"vector": view.embedding[3].tolist(), "identity": identity}))
    expected = brute(world, view.embedding[3], 10)
    for name in ("a.npy", "b.json"):
        assert [row["score"] for row in ask(world, "vector", tmp_path / name)] == pytest.approx(
            expected, abs=2e-6
        )
    identity["precision"] = "bf16"
    (tmp_path / "c.json").write_text(json.dumps({"vector": view.embedding[3].tolist(), "identity": identity}))
    answer = call("query", "vector", tmp_path / "c.json", *flags(world))
    assert answer.status == 1 and "precision: fp32 against bf16" in answer.err
    np.save(tmp_path / "d.npy", np.ones(5))
    answer = call("query", "vector", tmp_path / "d.npy", *flags(world))
    assert answer.status == 1 and "width 5" in answer.err


@pytest.mark.parametrize(
    "content", ["{", "[]", "[[1, 2], [3, 4]]", '{"vec": [1]}', '["a"]', "null", "[[1], 2]"]
)
def test_files_that_hold_no_vector(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError):
        read_vector(tmp_path / "x.json")


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no vector can be read"):
        read_vector(tmp_path / "x.npy")


def test_where_filters_before_the_search(world: World) -> None:
    view = View(world.view)
    rows = ask(world, "item", view.ids[0], "--where", "label = 'lid' AND width_px > 5", "--top", 12)
    assert len(rows) == 12 and {row["label"] for row in rows} == {"lid"}
    assert len(ask(world, "item", view.ids[0], "--where", f"item_id = '{view.ids[-1]}'")) == 1
    assert ask(world, "item", view.ids[0], "--where", "label = 'nothing'") == []
    said = done("query", "item", view.ids[0], "--where", "label = 'nothing'", *flags(world)).out
    assert "no item fulfils the filter" in said
    for where in (
        "label IN (SELECT content FROM read_text('/etc/passwd'))",
        "1=1); DROP TABLE items; --",
        "",
    ):
        answer = call("query", "item", view.ids[0], "--where", where, *flags(world))
        assert answer.status == 2 and answer.out == ""


def test_what_can_be_written(world: World, tmp_path: Path) -> None:
    view = View(world.view)
    arguments = ["item", view.ids[0], "--top", 7, "--unique"]
    rows = ask(
        world,
        *arguments,
        "--parquet",
        tmp_path / "hits.parquet",
        "--sheet",
        tmp_path / "hits.png",
        "--items",
        world.items,
    )
    table = pq.read_table(tmp_path / "hits.parquet").to_pylist()
    assert [row["item_id"] for row in table] == [row["item_id"] for row in rows]
    assert all("folded" in row for row in rows)
    with Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.width > 500
    assert "items by" in done("query", *arguments, *flags(world)).out
    for flag in ("--parquet", "--sheet"):
        answer = call("query", *arguments, flag, tmp_path / "hits.txt", "--items", world.items, *flags(world))
        assert answer.status == 2 and "ends in" in answer.err
    answer = call("query", *arguments, "--sheet", tmp_path / "x.png", *flags(world))
    assert answer.status == 2 and "--items ITEMS" in answer.err
    done(
        "query",
        "item",
        view.ids[0],
        "--where",
        "false",
        "--parquet",
        tmp_path / "none.parquet",
        *flags(world),
    )
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_wrong_requests(world: World, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"<html>")
    for arguments, said, status in (
        (["item", "nothing/like.this"], "there is no item", 2),
        (["image", tmp_path / "none.png"], "cannot be read", 1),
        (["image", tmp_path / "x.png"], "not a picture: it is an HTML", 1),
        (["text", "  "], "a text is 1 to", 2),
        (["item", View(world.view).ids[0], "--top", 0], "--top is 1 to", 2),
        (["item", View(world.view).ids[0], "--plus", "0*text:x"], "weight 0", 2),
    ):
        answer = call("query", *arguments, *flags(world))
        assert (answer.status, said in answer.err) == (status, True), answer
    answer = call("query", "item", "x", "--index", tmp_path / "none")
    assert answer.status == 1 and "`deponij index` makes one" in answer.err


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("metal", Term("text", "metal")),
        ("text:made of: metal", Term("text", "made of: metal")),
        ("0.5*item:a/b.jpg#3", Term("item", "a/b.jpg#3", 0.5)),
        ("2*metal", Term("text", "metal", 2.0)),
        ("sign: stop", Term("text", "sign: stop")),
        ("image:/tmp/x.png", Term("image", "/tmp/x.png")),
        ("vector:v.npy", Term("vector", "v.npy")),
    ],
)
def test_parts_of_a_query(text: str, term: Term) -> None:
    assert parse_term(text) == term
    assert parse_term(text, -1.0).weight == -term.weight


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is [WEIGHT*]"),
        ("  ", "is [WEIGHT*]"),
        ("0*metal", "weight 0"),
        ("itme:a.jpg#0", "text:itme:a.jpg#0"),
        ("foo:a dog", "[WEIGHT*][image|text|item|vector:]VALUE"),
        ("x*text:horse", "weights are positive numbers"),
        ("-1*item:a.jpg#1", "--minus subtracts"),
    ],
)
def test_parts_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_term(text)


def test_a_picture_does_not_stand_for_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_term("photo.jpg") == Term("text", "photo.jpg")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="write image:photo.jpg"):
        parse_term("photo.jpg")
    assert parse_term("text:photo.jpg") == Term("text", "photo.jpg")


def test_a_wrong_filter_or_file_is_told_before_a_model_is_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("deponij.project.extraction.feature_maker.load_backbone", loaded)
    for more in (("--where", "lable = 'a'"), ("--sheet", "x.jpg"), ("--parquet", "x.csv"), ("--top", "0")):
        answer = call("query", "text", "words never stored", *more, *flags(world))
        assert answer.status == 2 and "loading" not in answer.err


def test_a_sheet_of_other_items_is_refused(world: World, tmp_path: Path) -> None:
    picture = tmp_path / "pictures" / "a"
    picture.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(picture / "x.png")
    done("items", "--folder", picture.parent, "--out", tmp_path / "other")
    answer = call(
        *("query", "item", View(world.view).ids[0], "--items", tmp_path / "other"),
        *("--sheet", tmp_path / "x.png", "--index", world.root / "index"),
    )
    assert answer.status == 2 and "does not hold what was found" in answer.err
    assert not (tmp_path / "x.png").exists()


def test_a_folder_with_indexes_in_it_names_them(world: World) -> None:
    answer = call("query", "item", "x", "--index", world.root)
    assert answer.status == 1
    assert f"below it are {world.root / 'index'}, {world.root / 'mute_index'}" in answer.err


def test_without_index_the_profiles_is_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's own text view, backbone and items are found from the index's place in it."""
    run = tmp_path / "runs" / "tiny"
    for source, target in (
        (world.items, "items"),
        (world.texts, "views/texts/words.h5"),
        (world.root / "index", "indexes/words"),
        (world.root / "mute_index", "indexes/mute"),
    ):
        (run / target).parent.mkdir(parents=True, exist_ok=True)
        (run / target).symlink_to(source)
    (run / "weights").mkdir()
    (run / "weights" / "words.json").write_bytes(sealed({"spec": str(world.words), "toy": False}))
    (tmp_path / "params.yaml").write_text(
        "profile: tiny\nbackbones:\n  mute: {}\n  words: {}\ntext_backbones: [words]\n"
    )
    monkeypatch.chdir(tmp_path)
    item_id = View(world.view).ids[0]
    assert done("query", "item", item_id, "--json").json[0]["item_id"] == item_id
    # mute stands first, but has no words.
    assert len(done("query", "text", "can", "--json").json) == 10
    assert len(done("query", "text", "never stored", "--json", "--sheet", tmp_path / "s.png").json) == 10
    assert (tmp_path / "s.png").is_file()
    answer = call("query", "item", item_id, "--backbone", "nobody")
    assert answer.status == 2 and "it has mute, words" in answer.err
