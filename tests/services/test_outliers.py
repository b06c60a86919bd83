"""`deponij outliers`: one set looked through, and a new batch against an archive."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_world import call, done
from housekeeping_world import Row, World, make_world, write_set
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from deponij.pipeline.unit_vectors import unit
from deponij.services.curate.batches import BatchParams, judge
from deponij.services.curate.files import kth
from deponij.services.curate.outliers import OutliersParams, find_outliers
from deponij.store.errors import IdentityError, UsageError
from deponij.store.view import View

N = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fan of items 0.01 rad apart, two of each photograph; number 7 is labelled otherwise; the last one is far off."""
    root = tmp_path_factory.mktemp("outliers")
    world = make_world(root)
    rows = [
        Row(
            f"{i // 2}.jpg#{i % 2}", f"{i // 2}.jpg", "Lid" if i == 7 else "Can", None, i, 0, 0.01 * i, 1 << i
        )
        for i in range(N)
    ]
    # Lids of another place, so that number 7 has its like somewhere.
    rows += [
        Row(f"lid{i}.jpg#0", f"lid{i}.jpg", "Lid", None, 40 + i, 8, 0.01 * i, 1 << (40 + i)) for i in range(8)
    ]
    rows += [Row("odd.jpg#0", "odd.jpg", None, None, 60, 16, 0.0, 1 << 60)]
    write_set(root / "archive", root / "archive.h5", tuple(rows))
    return world


def test_scores_are_distances_to_the_kth_of_other_photographs(world: World) -> None:
    report = find_outliers(world.root / "archive.h5", world.root / "archive", params=OutliersParams(k=3))
    view = View(world.root / "archive.h5")
    units = unit(view.embedding)
    photos = np.array([item_id.split("#")[0] for item_id in view.ids])
    score_of = {one.item_id: one.score for one in report.items}
    for row, item_id in enumerate(view.ids.tolist()):
        others = units[photos != photos[row]]
        distances = (
            NearestNeighbors(n_neighbors=3, metric="cosine").fit(others).kneighbors(units[row][None])[0]
        )
        assert score_of[item_id] == pytest.approx(float(distances[0, -1]), abs=2e-6)
    assert [one.score for one in report.items] == sorted(score_of.values(), reverse=True)


def test_with_the_own_photograph_its_crops_count(world: World) -> None:
    arguments = world.root / "archive.h5", world.root / "archive"
    own = find_outliers(*arguments, params=OutliersParams(k=1, own_photo=True))
    by_id = {one.item_id: one for one in own.items}
    assert by_id["3.jpg#0"].nearest in ("3.jpg#1", "2.jpg#1")
    assert by_id["3.jpg#0"].score == pytest.approx(1 - np.cos(0.01), abs=1e-6)
    others = {one.item_id: one for one in find_outliers(*arguments, params=OutliersParams(k=1)).items}
    assert others["3.jpg#0"].nearest == "2.jpg#1" and others["3.jpg#1"].nearest == "4.jpg#0"


def test_the_odd_one_comes_first_and_the_misplaced_is_told(world: World) -> None:
    report = find_outliers(
        world.root / "archive.h5", world.root / "archive", labels="label", params=OutliersParams(k=5)
    )
    assert report.items[0].item_id == "odd.jpg#0" and report.items[0].score == pytest.approx(1)
    assert report.n_beyond >= 1 and report.items[0].score > report.fence
    (misplaced,) = report.misplaced
    assert (misplaced.item_id, misplaced.label, misplaced.n_same, report.n_misplaced) == (
        "3.jpg#1",
        "Lid",
        0,
        1,
    )
    # The lids lie at a right angle.
    assert misplaced.nearest_same == pytest.approx(1, abs=1e-6)
    assert misplaced.nearest_different == pytest.approx(1 - np.cos(0.01), abs=1e-6)
    assert (report.items[0].n_same, report.items[0].nearest_same) == (None, None)


def test_the_deepest_among_another_class_comes_first(tmp_path: Path) -> None:
    # Cups in two fans, loose and dense; a cap in each; the other caps are at a right angle to both.
    turns = [*(0.1 * i for i in range(10)), *(2 + 0.02 * i for i in range(10)), 0.45, 2.005, 0.0, 0.1]
    labels, axis = ["Cup"] * 20 + ["Cap"] * 4, [0] * 22 + [4] * 2
    rows = [
        Row(f"{i}.jpg#0", f"{i}.jpg", label, None, i, one, turn, 1 << i)
        for i, (one, turn, label) in enumerate(zip(axis, turns, labels, strict=True))
    ]
    write_set(tmp_path / "items", tmp_path / "view.h5", tuple(rows))
    report = find_outliers(
        tmp_path / "view.h5", tmp_path / "items", labels="label", params=OutliersParams(k=3)
    )
    # Their nearest cups are 0.05 and 0.005 rad off.
    found = [one.item_id for one in report.misplaced if one.item_id in ("20.jpg#0", "21.jpg#0")]
    assert found == ["21.jpg#0", "20.jpg#0"]


def test_a_view_alone_says_that_photographs_are_not_known(world: World) -> None:
    report = find_outliers(world.root / "archive.h5", params=OutliersParams(k=2))
    assert "no items were named" in report.notes[0] and report.items[0].item_id == "odd.jpg#0"
    with pytest.raises(UsageError, match="--items"):
        find_outliers(world.root / "archive.h5", labels="label")


def new_batch(root: Path) -> tuple[Path, Path]:
    """A copy; near by hash; near by features; within the fan; two that are far; one far that is near by hash alone."""
    rows = (
        Row("copy.jpg#0", "copy.jpg", None, None, 4, 0, 0.04, 1 << 4),
        Row("hash.jpg#0", "hash.jpg", None, None, 70, 12, 0.0, (1 << 9) | (1 << 50)),
        Row("near.jpg#0", "near.jpg", None, None, 71, 0, 0.055, 0xFFFF_FFFF),
        Row("more.jpg#0", "more.jpg", None, None, 72, 0, 0.305, 0xFFFF_FFFF << 8),
        Row("far.jpg#0", "far.jpg", None, None, 73, 18, 0.0, 0xFFFF_FFFF << 16),
        Row("beside.jpg#0", "beside.jpg", None, None, 74, 18, 0.2, 0xFFFF_FFFF << 24),
    )
    write_set(root / "new", root / "new.h5", rows)
    return root / "new.h5", root / "new"


def test_a_batch_is_sorted_into_four_kinds_and_picked_from(world: World, tmp_path: Path) -> None:
    view, items = new_batch(tmp_path)
    # The radius is 0.03 rad: of the outermost two of the fan, to the second of another photograph.
    # One is near by its hash alone, whose features are far.
    params = BatchParams(
        k=2, quantile=0.97, max_bits=2, min_cosine=float(np.cos(0.01)), confirm_cosine=-1, pick=4
    )
    report = judge(world.root / "archive.h5", view, world.root / "archive", items, params=params)
    assert report.radius == pytest.approx(1 - np.cos(0.03), abs=1e-6)
    kinds = {one.item_id.split(".")[0]: one.novelty for one in report.items}
    assert kinds == {
        "copy": "exact",
        "hash": "near",
        "near": "near",
        "more": "familiar",
        "far": "novel",
        "beside": "novel",
    }
    assert report.n == {"exact": 1, "near": 2, "familiar": 1, "novel": 2}
    assert report.shares["near"] == pytest.approx(2 / 6, abs=1e-6)
    assert [one.novelty for one in report.items] == ["novel", "novel", "familiar", "near", "near", "exact"]
    by_name = {one.item_id.split(".")[0]: one for one in report.items}
    assert (by_name["copy"].like, by_name["copy"].distance) == ("2.jpg#0", 0)
    assert (by_name["hash"].like, by_name["hash"].bits) == ("4.jpg#1", 1)
    # The far one is at right angles to all; its neighbour then adds but 0.2 rad; the last of the fan is 0.015 rad off.
    pick = report.pick
    assert [one.item_id for one in pick] == ["far.jpg#0", "beside.jpg#0", "more.jpg#0"]
    assert [one.gap for one in pick] == pytest.approx([1, 1 - np.cos(0.2), 1 - np.cos(0.015)], abs=2e-6)
    assert report.farthest == pytest.approx(1) and report.farthest_with_pick == pytest.approx(0, abs=1e-5)
    assert "3 items were picked" in report.notes[-1]


def test_a_batch_of_another_model_is_refused_with_the_difference(world: World, tmp_path: Path) -> None:
    rows = (Row("a.jpg#0", "a.jpg", None, None, 1, 0, 0.0, 1),)
    write_set(tmp_path / "new", tmp_path / "new.h5", rows, weights="v" * 64)
    with pytest.raises(IdentityError, match=r"weights: w+ against v+"):
        judge(world.root / "archive.h5", tmp_path / "new.h5")
    answer = call("outliers", "--features", world.root / "archive.h5", "--new", tmp_path / "new.h5")
    assert answer.status == 1 and "weights" in answer.err and "backbone:" not in answer.err


def test_the_command_over_one_set(world: World, tmp_path: Path) -> None:
    named = ["--features", world.root / "archive.h5", "--items", world.root / "archive", "--labels", "label"]
    out = ["--parquet", tmp_path / "all.parquet", "--sheet", tmp_path / "sheet.png"]
    found = done("outliers", *named, "--k", 5, "--top", 4, *out, "--json").json
    assert len(found["items"]) == 4 and found["items"][0]["item_id"] == "odd.jpg#0"
    assert [one["item_id"] for one in found["misplaced"]] == ["3.jpg#1"] and found["n"] == N + 9
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.num_rows == N + 9 and table["score"].to_pylist() == sorted(
        table["score"].to_pylist(), reverse=True
    )
    assert (
        str(table.schema.field("n_same").type) == "int64"
        and str(table.schema.field("label").type) == "string"
    )
    assert Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())).height > 2 * 144
    text = done("outliers", *named, "--k", 5).out
    assert "the 5th nearest other of another photograph lies within" in text and "standing out: " in text
    assert "with 5 neighbours of others only (label): 1 item\n" in text


def test_the_command_over_a_batch(world: World, tmp_path: Path) -> None:
    view, items = new_batch(tmp_path)
    named = ["--features", world.root / "archive.h5", "--items", world.root / "archive", "--labels", "label"]
    new = ["--new", view, "--new-items", items, "--k", 2]
    out = ["--parquet", tmp_path / "new.parquet", "--sheet", tmp_path / "sheet.png"]
    found = done("outliers", *named, *new, "--pick", 2, "--top", 3, *out, "--json").json
    assert len(found["items"]) == 3 and [one["rank"] for one in found["pick"]] == [1, 2]
    table = pq.read_table(tmp_path / "new.parquet")
    assert table.num_rows == 6 and sorted(table["rank"].to_pylist(), key=str)[:2] == [1, 2]
    assert Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())).height > 144
    text = done("outliers", *named, *new).out
    assert "exact 1 (16.7%), near" in text and "the most novel first" in text and "coverage" in text
    assert "add most together" in done("outliers", *named, *new, "--pick", 1).out
    bare = done("outliers", "--features", world.root / "archive.h5", "--new", view, "--k", 2).out
    assert "perceptual hashes were not compared" in bare


def test_the_profile_in_force_is_the_archive(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.root)
    assert done("outliers", "--k", 2, "--json").json["n"] == 9
    itself = done("outliers", "--k", 2, "--new", world.view, "--json").json
    assert itself["shares"]["exact"] == 1 and "every new picture" in " ".join(itself["notes"])


def test_bad_usage_is_told(world: World, tmp_path: Path) -> None:
    named = ["--features", world.root / "archive.h5"]
    for flags in (["--pick", 3], ["--new-items", tmp_path]):
        answer = call("outliers", *named, *flags)
        assert answer.status == 2 and "--new VIEW" in answer.err
    few = call("outliers", *named, "--k", 60)
    assert few.status == 2 and "only 38 others" in few.err
    bare = call("outliers", "--items", world.root / "archive")
    assert bare.status == 2 and "--features VIEW" in bare.err
    for flag, value in (("--sheet", "s.gif"), ("--parquet", "p.csv"), ("--k", 0), ("--k", 5000)):
        assert call("outliers", *named, flag, value).status == 2
    new = ["--new", world.root / "archive.h5"]
    assert call("outliers", *named, *new, "--quantile", 1).status == 2
    sheet = call("outliers", *named, *new, "--sheet", tmp_path / "s.png")
    assert sheet.status == 2 and "pictures are with the items" in sheet.err


def test_ordinals() -> None:
    assert [kth(k) for k in (1, 2, 3, 4, 11, 12, 21, 102, 113)] == [
        "", "2nd ", "3rd ", "4th ", "11th ", "12th ", "21st ", "102nd ", "113th ",
    ]  # fmt: skip
