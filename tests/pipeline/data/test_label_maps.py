"""Label maps: the files, the ways to ask for one, and TACO's published counts."""

from collections import Counter
from pathlib import Path

import pytest

from deponij.pipeline.data.adapters.coco import CocoDataset, read_coco
from deponij.pipeline.data.adapters.label_maps import BUILT_IN, label_maps, min_count_map, read_label_map
from deponij.store.errors import DataError, UsageError

COUNTS = {"Can": 5, "Bottle": 2, "Shoe": 0}

# Instances per class, as counted in TACO's annotation file: all 4,784, and the pool of 4,779.
TACO10_ALL = {
    "Other": 1727, "Plastic bag + wrapper": 850, "Cigarette": 667, "Bottle": 439, "Bottle cap": 289,
    "Can": 273, "Cup": 192, "Straw": 161, "Pop tab": 99, "Lid": 87,
}  # fmt: skip
TACO10_POOL = {**TACO10_ALL, "Other": 1724, "Cup": 190}
OUTSIDE_POOL = {"Plastified paper bag": 0, "Carded blister pack": 1, "Battery": 2, "Other plastic cup": 2}
UNMATCHED = ("Produce bag", "Cereal bag", "Bread bag", "Retort pouch")


@pytest.fixture(scope="module")
def taco(shared: Path) -> CocoDataset:
    return read_coco(shared / "data" / "taco" / "annotations.json")


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("header", ["", "category,label\n", "Category,Label\n", "\ufeffcategory,label\n"])
def test_a_file_of_rows_with_and_without_header(tmp_path: Path, header: str) -> None:
    path = written(tmp_path / "kinds.csv", f'{header}Can,metal\n"Bag, plastic", soft \n\n')
    assert dict(read_label_map(path, "kinds").labels) == {"Can": "metal", "Bag, plastic": "soft"}


def test_labels_and_rows_that_match_nothing(tmp_path: Path) -> None:
    one = read_label_map(written(tmp_path / "kinds.csv", "Can,metal\nFork,metal\n"), "kinds")
    assert [one.label_of(category) for category in ("Can", "Bottle", None)] == ["metal", None, None]
    assert one.unmatched(COUNTS) == ("Fork",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Can\n", "line 1: got 'Can'"),
        ("Can,metal\nShoe,\n", "line 2"),
        ("a,b,c\n", "expected 'category,label'"),
        ("Can,metal\nCan,tin\n", "two labels, 'metal' and 'tin'"),
        ("category,label\n", "no rows"),
    ],
)
def test_wrong_files_are_errors(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_label_map(written(tmp_path / "m.csv", text), "m")


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_label_map(tmp_path / "none.csv", "none")
    path = tmp_path / "latin.csv"
    path.write_bytes("Tüte,Plastik\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        read_label_map(path, "latin")


def test_minimum_counts() -> None:
    assert dict(min_count_map(COUNTS, 2, "two").labels) == {"Can": "Can", "Bottle": "Bottle"}
    (one,) = label_maps(["min-count:3"], COUNTS)
    assert (one.name, dict(one.labels)) == ("category_min3", {"Can": "Can"})
    (two,) = label_maps(["often=min-count:1"], COUNTS)
    assert (two.name, set(two.labels)) == ("often", {"Can", "Bottle"})


def test_files_are_columns_by_their_names(tmp_path: Path) -> None:
    path = written(tmp_path / "kinds.csv", "Can,metal\n")
    assert [one.name for one in label_maps([str(path), f"other={path}"], COUNTS)] == ["kinds", "other"]


def test_asking_twice_is_once_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m.csv", "Can,metal\n")
    assert len(label_maps([str(path), str(path)], COUNTS)) == 1
    with pytest.raises(UsageError, match="two label maps are named 'm'"):
        label_maps([str(path), "m=min-count:1"], COUNTS)


def test_unknown_names_list_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'taco10'\?.*auto, taco10, taco56, min-count:K"):
        label_maps(["taco1"], COUNTS)


def test_a_map_for_another_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="matches no category"):
        label_maps(["taco56"], {"cat": 3, "dog": 4})


def test_names_that_cannot_be_columns_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "my map.csv", "Can,metal\n")
    with pytest.raises(UsageError, match="cannot name a column; write COLUMN="):
        label_maps([str(path)], COUNTS)


def test_auto_is_nothing_for_other_data_sets() -> None:
    assert label_maps(["auto"], COUNTS) == ()
    assert label_maps([], COUNTS) == ()


def test_built_in_maps_are_facts_of_their_own() -> None:
    ten, fifty_six = (read_label_map(path, name) for name, path in BUILT_IN.items())
    assert (len(ten.labels), len(set(ten.labels.values()))) == (64, 10)
    assert len(fifty_six.labels) == 56
    assert all(category == label for category, label in fifty_six.labels.items())
    assert set(fifty_six.labels) | set(OUTSIDE_POOL) == set(ten.labels) - set(UNMATCHED)


def test_ten_class_map_is_tacos_own(shared: Path) -> None:
    published = read_label_map(shared / "data" / "taco" / "map_10.csv", "published")
    assert read_label_map(BUILT_IN["taco10"], "taco10").labels == published.labels


def test_counts_of_taco(taco: CocoDataset) -> None:
    assert (len(taco.photographs), taco.n_annotations, len(taco.categories)) == (1500, 4784, 60)
    assert sum(count > 0 for count in taco.category_counts.values()) == 59
    assert len({category.supercategory for category in taco.categories}) == 28
    assert {name: taco.category_counts[name] for name in OUTSIDE_POOL} == OUTSIDE_POOL
    assert sum(one.problem is not None for photo in taco.photographs for one in photo.annotations) == 0


def test_counts_of_tacos_classes(taco: CocoDataset) -> None:
    ten, fifty_six = label_maps(["auto"], taco.category_counts)
    assert (ten.name, fifty_six.name) == ("taco10", "taco56")
    everything, pool, fine = Counter[str | None](), Counter[str | None](), Counter[str | None]()
    for category, count in taco.category_counts.items():
        everything[ten.label_of(category)] += count
        fine[fifty_six.label_of(category)] += count
        pool[ten.label_of(category)] += count * (fifty_six.label_of(category) is not None)
    assert everything == TACO10_ALL
    assert pool == TACO10_POOL
    assert fine.pop(None) == 5
    assert (len(fine), fine.total(), fine["Cigarette"], fine["Pizza box"]) == (56, 4779, 667, 3)
    assert ten.unmatched(taco.category_counts) == UNMATCHED
    assert fifty_six.unmatched(taco.category_counts) == ()


@pytest.mark.parametrize(("minimum", "n_classes"), [(1, 59), (2, 58), (3, 56), (4, 54)])
def test_thresholds_of_taco(taco: CocoDataset, minimum: int, n_classes: int) -> None:
    labels = min_count_map(taco.category_counts, minimum, "m").labels
    assert len(labels) == n_classes
    if minimum == 3:
        assert labels == read_label_map(BUILT_IN["taco56"], "taco56").labels
