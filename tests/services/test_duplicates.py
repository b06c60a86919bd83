"""`deponij duplicates` over a set whose near-duplicates were put there by hand."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_world import call, done
from housekeeping_world import ROWS, Row, World, flipped, make_world, write_set
from learning_world import write_features, write_split
from PIL import Image

from deponij.services.curate.collection import Gathered, Where
from deponij.services.curate.duplicates import DuplicatesParams, DuplicatesReport, find_duplicates, run
from deponij.services.curate.files import kept_ids
from deponij.store.errors import DataError, StoreError, UsageError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("duplicates"))


@pytest.fixture(scope="module")
def report(world: World) -> DuplicatesReport:
    return find_duplicates(world.view, world.items, splits={"group": world.split}, labels="label")


def test_groups_say_what_links_them(report: DuplicatesReport) -> None:
    found = [[(one.item_id, one.how, one.bits) for one in group.members] for group in report.groups]
    # The surest first; of a group, the item of the evaluation part.
    assert found == [
        [("b.jpg#0", (), 0), ("a.jpg#0", ("picture", "phash", "embedding"), 0)],
        [("e.jpg#0", (), 0), ("d.jpg#0", ("embedding",), 40)],
        [("c.jpg#1", (), 0), ("c.jpg#0", ("phash",), 2)],
    ]
    assert [group.kind for group in report.groups] == ["exact", "near", "near"]
    lowest = [group.min_cosine for group in report.groups]
    assert lowest == pytest.approx([1, np.cos(0.1), np.cos(0.5)], abs=1e-5)
    assert report.loosest == pytest.approx(np.cos(0.5), abs=1e-5)


def test_labels_photographs_and_parts_are_told(report: DuplicatesReport) -> None:
    exact, conflict, _ = report.groups
    assert (conflict.labels, conflict.is_conflict) == ({"Can": 1, "Lid": 1}, True)
    assert (exact.labels, exact.is_conflict) == ({"Can": 2}, False)
    assert [group.n_photos for group in report.groups] == [2, 2, 1]
    assert [group.leaks for group in report.groups] == [("group",)] * 3
    assert [one.parts for one in exact.members] == [{"group": "test"}, {"group": "train"}]


def test_the_summary_counts_items_pairs_and_groups(report: DuplicatesReport) -> None:
    assert (report.n, report.n_left_out, report.n_alike) == (9, 1, 6)
    assert report.n_pairs == {"picture": 1, "phash": 2, "embedding": 2, "any": 3}
    assert (report.n_groups, report.n_exact, report.n_near, report.n_surplus) == (3, 1, 2, 3)
    assert (report.n_within_photo, report.n_conflicts, report.n_leaking) == (1, 1, 3)


def test_leaks_count_items_of_one_part_with_their_like_in_another(report: DuplicatesReport) -> None:
    found = {(one.part, one.against): one for one in report.leaks}
    test = found["test", "train"]
    # h is alike with nothing, and i has no features.
    assert (test.n, test.n_alike, test.share, test.n_other_photo) == (3, 2, 0.666667, 2)
    assert test.by == {"picture": 1, "phash": 1, "embedding": 2}
    val = found["val", "train"]
    assert (val.n, val.n_alike, val.n_other_photo) == (1, 1, 0)
    assert found["test", "val"].n_alike == 0


def test_thresholds_count(world: World) -> None:
    strict = DuplicatesParams(max_bits=1, min_cosine=0.999)
    report = find_duplicates(world.view, world.items, params=strict)
    assert [[one.item_id for one in group.members] for group in report.groups] == [["a.jpg#0", "b.jpg#0"]]
    # Hashes alone: also the pair that features deny.
    bare = find_duplicates(world.view, world.items, params=DuplicatesParams(confirm_cosine=-1))
    assert {"f.jpg#0", "g.jpg#0"} in [{one.item_id for one in group.members} for group in bare.groups]
    assert bare.n_pairs["phash"] == 3
    assert (report.groups[0].leaks, report.leaks, report.groups[0].labels) == ((), (), {})


def test_pairs_that_no_group_shows_are_counted_as_leaks(tmp_path: Path) -> None:
    # 0.15 rad apart each: the two outer ones (0.3 rad) are not alike. The middle one goes to the group of the first.
    rows = tuple(
        Row(f"{i}.jpg#0", f"{i}.jpg", "Can", part, i, 0, 0.15 * i, 1 << i)
        for i, part in enumerate(("train", "test", "train"))
    )
    write_set(tmp_path / "items", tmp_path / "view.h5", rows)
    write_split(tmp_path / "split.parquet", [row.item_id for row in rows], [row.part for row in rows])
    params = DuplicatesParams(max_bits=0, min_cosine=0.98)
    report = find_duplicates(
        tmp_path / "view.h5", tmp_path / "items", splits={"s": tmp_path / "split.parquet"}, params=params
    )
    assert [[one.item_id for one in group.members] for group in report.groups] == [
        ["1.jpg#0", "0.jpg#0", "2.jpg#0"]
    ]
    train = next(one for one in report.leaks if one.part == "test" and one.against == "train")
    assert train.n_alike == 1


def test_no_two_that_are_kept_are_alike_and_test_items_stay(world: World, report: DuplicatesReport) -> None:
    found = Gathered(Where(world.view, world.items, {"group": world.split}, "label"))
    kept = kept_ids(report, found)
    assert kept == ["b.jpg#0", "c.jpg#1", "e.jpg#0", "f.jpg#0", "g.jpg#0", "h.jpg#0"]
    # Without a split the larger group would decide, then the size of the picture, then the name.
    bare = Gathered(Where(world.view, world.items))
    assert kept_ids(run(DuplicatesParams(), bare), bare)[:3] == ["a.jpg#0", "c.jpg#0", "d.jpg#0"]


def test_items_alone_and_a_view_alone_are_enough(world: World) -> None:
    items = find_duplicates(items=world.items)
    assert [{one.item_id for one in group.members} for group in items.groups] == [
        {"a.jpg#0", "b.jpg#0"},
        {"c.jpg#0", "c.jpg#1"},
        {"f.jpg#0", "g.jpg#0"},
    ]
    assert items.evidence == ("picture", "phash") and "no features" in items.notes[0]
    assert (items.n, items.n_left_out) == (9, 1)
    view = find_duplicates(world.view)
    assert (
        view.evidence == ("picture", "embedding") and view.n_groups == 2 and view.groups[0].n_photos is None
    )


def test_a_threshold_that_is_too_low_is_told(world: World, tmp_path: Path) -> None:
    # Features within a narrow cone: all have a cosine of 0.99 or more with all.
    rows = tuple(
        Row(f"{i}.jpg", f"{i}.jpg", None, None, i, 0, 0.001 * i, flipped(0, *range(3 * i, 3 * i + 20)))
        for i in range(12)
    )
    write_set(tmp_path / "items", tmp_path / "view.h5", rows)
    note, no_split = find_duplicates(tmp_path / "view.h5", tmp_path / "items").notes
    assert "--split" in no_split
    assert note.startswith("100.0% of all pairs") and "raise --min-cosine" in note
    assert find_duplicates(world.view, world.items).notes == (no_split,)


def test_files_that_do_not_belong_together_are_refused(world: World, tmp_path: Path) -> None:
    write_set(tmp_path / "items", tmp_path / "view.h5", ROWS[:3])
    with pytest.raises(StoreError, match="not in"):
        find_duplicates(world.view, tmp_path / "items")
    write_split(tmp_path / "split.parquet", ["somebody else's"], ["train"])
    with pytest.raises(DataError, match="other items"):
        find_duplicates(world.view, world.items, splits={"s": tmp_path / "split.parquet"})
    with pytest.raises(UsageError, match="no column 'brand'"):
        find_duplicates(world.view, world.items, labels="brand")
    with pytest.raises(UsageError, match="--items"):
        find_duplicates(world.view, labels="label")
    with pytest.raises(UsageError, match="--features"):
        find_duplicates()


def test_the_command_writes_everything(world: World, tmp_path: Path) -> None:
    out = [
        "--keep",
        tmp_path / "keep.txt",
        "--parquet",
        tmp_path / "groups.parquet",
        "--sheet",
        tmp_path / "s.png",
    ]
    found = done("duplicates", *world.named, *out, "--json").json
    assert found["n_groups"] == 3 and found["groups"][0]["members"][0]["item_id"] == "b.jpg#0"
    assert (tmp_path / "keep.txt").read_text().split() == [
        f"{name}#{number}"
        for name, number in (
            ("b.jpg", 0),
            ("c.jpg", 1),
            ("e.jpg", 0),
            ("f.jpg", 0),
            ("g.jpg", 0),
            ("h.jpg", 0),
        )
    ]
    table = pq.read_table(tmp_path / "groups.parquet").to_pydict()
    assert table["item_id"] == ["b.jpg#0", "a.jpg#0", "e.jpg#0", "d.jpg#0", "c.jpg#1", "c.jpg#0"]
    assert table["group"] == [0, 0, 1, 1, 2, 2] and table["is_first"] == [True, False] * 3
    assert table["split_group"] == ["test", "train", "test", "train", "val", "train"]
    picture = Image.open(io.BytesIO((tmp_path / "s.png").read_bytes()))
    # Two groups of two in the first row, one in the second.
    assert picture.height > 2 * 144 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 100
    told = done("duplicates", *world.named, "--keep", tmp_path / "keep.parquet").err
    assert "6 of 9 items are kept" in told
    assert len(pq.read_table(tmp_path / "keep.parquet")["item_id"]) == 6


def test_the_table_names_leaks_conflicts_and_links(world: World) -> None:
    out = done("duplicates", *world.named).out
    assert "3 groups (1 exact, 2 near" in out and "(1 more have none)" in out
    assert (
        "2 of 3 test items (66.7%) are alike with train items (1 by content, 1 by perceptual hash, 2 by features; 2 in"
        in out
    )
    assert "same picture, leak" in out and "labels differ" in out and "one photo" in out
    assert "cos 0.995 (40 bits)" in out and "2 bits (cos 0.878)" in out
    assert "2 more groups" in done("duplicates", *world.named, "--top", 1).out


def test_without_files_the_profile_in_force_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    found = done("duplicates", "--json").json
    # The first backbone of the profile has no features, one of its splits was not made.
    assert (found["n_groups"], found["labels"], found["fingerprint"] is not None) == (3, "label", True)
    assert {leak["split"] for leak in found["leaks"]} == {"group"}
    assert call("duplicates", "--backbone", "nobody").status == 2
    absent = call("duplicates", "--backbone", "other")
    assert absent.status == 1 and "there is no view" in absent.err
    both = call("duplicates", "--items", world.items, "--backbone", "model")
    assert both.status == 2 and "--backbone" in both.err


def test_bad_usage_is_told_before_anything_is_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no profile is in force" in call("duplicates").err
    nowhere = ["duplicates", "--items", tmp_path / "nowhere"]
    for flag, value in (("--keep", "k.csv"), ("--sheet", "s.jpg"), ("--parquet", "p.txt")):
        answer = call(*nowhere, flag, value)
        assert answer.status == 2 and flag in answer.err
    assert call(*nowhere).status == 1
    for flag, number in (("--min-cosine", 0), ("--min-cosine", 1.5), ("--max-bits", 65), ("--top", 0)):
        assert call("duplicates", *world.named, flag, number).status == 2
    write_set(tmp_path / "items", tmp_path / "view.h5")
    alone = ["duplicates", "--features", tmp_path / "view.h5"]
    assert "--items" in call(*alone, "--labels", "label").err
    sheet = call(*alone, "--sheet", tmp_path / "s.png")
    assert sheet.status == 2 and "pictures are with the items" in sheet.err


def test_labels_and_parts_are_checked_where_nothing_is_alike_too(world: World, tmp_path: Path) -> None:
    write_set(tmp_path / "items", tmp_path / "view.h5", ROWS[6:9])
    wrong = call("duplicates", "--items", tmp_path / "items", "--labels", "lable")
    assert wrong.status == 2 and "no column 'lable'" in wrong.err
    write_split(tmp_path / "split.parquet", [row.item_id for row in ROWS], ["Test"] * len(ROWS))
    parts = call("duplicates", "--features", world.view, "--split", tmp_path / "split.parquet")
    assert parts.status == 1 and "has the parts ['Test']; allowed are train, val, test" in parts.err


def test_features_that_are_not_finite_are_told_by_item(tmp_path: Path) -> None:
    write_features(
        tmp_path / "view.h5", ["a", "b"], ["0" * 40, "1" * 40], np.array([[1, 0], [np.nan, 1]], np.float32)
    )
    with pytest.raises(
        StoreError, match=r"view\.h5: the features of 1 items are NaN or infinite, the first: 'b'"
    ):
        find_duplicates(tmp_path / "view.h5")


def test_a_view_of_a_run_brings_its_items_and_splits(world: World) -> None:
    found = done("duplicates", "--features", world.view, "--labels", "label", "--json").json
    assert (found["n_groups"], found["n_conflicts"]) == (3, 1)
    assert {leak["split"] for leak in found["leaks"]} == {"group"} and found["notes"] == []
