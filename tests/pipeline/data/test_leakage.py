"""Leakage between parts: shared photographs, and copies that are found by their looks."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deponij.pipeline.data.splitting.leakage import leakage_report
from deponij.pipeline.data.splitting.partition import group_split, taco56_split
from deponij.pipeline.likeness.phash import phash
from deponij.store.errors import UsageError


def picture(seed: int) -> Image.Image:
    """Smooth noise: something with shapes, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((120, 90), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def recompressed(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    return Image.open(out)


def test_copies_on_other_sides_are_found() -> None:
    images = [picture(seed) for seed in range(12)]
    copies = [recompressed(images[0]), images[1].resize((108, 81), Image.Resampling.BICUBIC)]
    hashes = [phash(image) for image in [*images, *copies]]
    ids = [f"{n}.png" for n in range(14)]
    parts = ["train"] * 8 + ["val"] * 2 + ["test"] * 2 + ["test", "val"]
    leakage = leakage_report(ids, parts, ids, hashes)
    assert {(pair.item_id_a, pair.item_id_b) for pair in leakage.near_pairs} == {
        ("0.png", "12.png"),
        ("1.png", "13.png"),
    }
    assert (leakage.n_near_pairs, leakage.n_test_near_train) == (2, 1)
    assert {(pair.part_a, pair.part_b) for pair in leakage.near_pairs} == {
        ("train", "test"),
        ("train", "val"),
    }
    same_side = leakage_report(ids, ["train"] * 14, ids, hashes)
    assert same_side.n_near_pairs == 0


def test_counts_by_hand() -> None:
    ids = list("abcdefgh")
    parts = ["train", "train", "val", "val", "test", "test", "test", None]
    groups = ["p", "q", "q", "q", "p", "r", None, "p"]
    same = "00" * 8
    hashes = [same, None, same, "ff" * 8, "00" * 7 + "07", same, "ff" * 8, same]
    leakage = leakage_report(ids, parts, groups, hashes, 3)
    assert (leakage.n_train, leakage.n_val, leakage.n_test) == (2, 2, 3)
    assert (leakage.n_test_sharing, leakage.n_val_sharing) == (1, 2)  # e with a; c and d with b
    assert leakage.test_sharing_share == 1 / 3
    assert leakage.n_groups_shared == 2  # p, q
    assert leakage.n_unhashed == 1
    # a-c 0, a-f 0, c-f 0, d-g 0, a-e 3, c-e 3
    assert leakage.n_near_pairs == 6
    assert leakage.n_test_near_train == 2  # e and f
    assert [pair.distance_bits for pair in leakage.near_pairs] == [0, 0, 0, 0, 3, 3]
    assert {(pair.item_id_a, pair.item_id_b) for pair in leakage.near_pairs if pair.same_group} == {
        ("a", "e")
    }
    assert leakage_report(ids, parts, groups, hashes, 2).n_near_pairs == 4
    capped = leakage_report(ids, parts, groups, hashes, 3, max_listed=2)
    assert (capped.n_near_pairs, len(capped.near_pairs)) == (6, 2)
    assert json.loads(json.dumps(capped.to_json()))["test_sharing_share"] == 1 / 3
    assert "1 of 3 test items (33.3 %)" in leakage.summary


def test_items_without_a_group_share_with_nobody() -> None:
    leakage = leakage_report(["a", "b"], ["train", "test"], [None, None], ["00" * 8] * 2)
    assert (leakage.n_test_sharing, leakage.n_groups_shared, leakage.n_near_pairs) == (0, 0, 1)
    assert not leakage.near_pairs[0].same_group


def test_nothing_to_compare() -> None:
    leakage = leakage_report(["a"], [None], ["a"], [None])
    assert (leakage.n_test, leakage.n_near_pairs, leakage.test_sharing_share) == (0, 0, 0)
    with pytest.raises(UsageError, match="one length"):
        leakage_report(["a"], [], [], [])


def test_an_instance_split_of_taco_leaks_and_a_group_split_does_not(shared: Path) -> None:
    """protocols.md: about 84 % of test boxes share an image with training boxes, over 20 seeds."""
    coco = json.loads((shared / "data" / "taco" / "annotations.json").read_text())
    counts = np.bincount([annotation["category_id"] for annotation in coco["annotations"]])
    labels = [str(a["category_id"]) if counts[a["category_id"]] >= 3 else None for a in coco["annotations"]]
    images = [annotation["image_id"] for annotation in coco["annotations"]]
    ids = [str(row) for row in range(len(images))]
    nothing = [None] * len(images)
    shares = []
    for seed in range(20):
        parts = taco56_split(labels, seed).parts
        shares.append(leakage_report(ids, parts, images, nothing).test_sharing_share)
    assert np.mean(shares) == pytest.approx(0.84, abs=0.015)
    leakage = leakage_report(ids, group_split(images, labels).parts, images, nothing)
    assert (leakage.n_test_sharing, leakage.n_val_sharing, leakage.n_groups_shared) == (0, 0, 0)
    assert leakage.n_test > 470
