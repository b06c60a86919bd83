"""What retrieval leaves out or lacks is said: items without label, features or caption, and texts to be made anew."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from learning_world import CLASSES, make_world, picture, vectors, write_features, write_split

from deponij.project.retrieval import images
from deponij.project.retrieval import texts as word_retrieval
from deponij.project.retrieval.archive import RetrievalParams
from deponij.store.errors import DataError
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.view import View

QUICK = RetrievalParams()
CAPTIONS = ("a can", "a cup")


def write_told(root: Path, captions: Sequence[str | None], parts: Sequence[str]) -> dict[str, Path]:
    """Items with these captions and parts, of four classes in turn; texts of classes and of `CAPTIONS`."""
    ids = [f"{i}.jpg" for i in range(len(captions))]
    labels = [CLASSES[i % 4] for i in range(len(captions))]
    schema = pa.schema([("label", pa.string()), ("caption", pa.string())])
    with ItemWriter(root / "items", schema) as writer:
        for i, (item_id, caption) in enumerate(zip(ids, captions, strict=True)):
            writer.add(
                item_id=item_id,
                key=key_of_bytes(picture(i)),
                image_id=item_id,
                content=picture(i),
                metadata={"label": labels[i], "caption": caption},
            )
    write_split(root / "split.parquet", ids, parts)
    keys = [key_of_bytes(picture(i)) for i in range(len(ids))]
    write_features(root / "view.h5", ids, keys, vectors(labels, 0.5, 0))
    write_texts_and_captions(root / "texts.h5", [*CLASSES, *CAPTIONS])
    return {
        "features": root / "view.h5",
        "texts": root / "texts.h5",
        "items": root / "items",
        "split": root / "split.parquet",
    }


def write_texts_and_captions(path: Path, texts: Sequence[str]) -> None:
    groups = [text if text in CLASSES else "" for text in texts]
    write_features(
        path,
        [f"{i}" for i in range(len(texts))],
        [key_of_text(text) for text in texts],
        vectors(groups, 0.3, 1),
        kind="text",
        columns={
            "text": texts,
            "group": groups,
            "template": ["{}" if group else "" for group in groups],
            "caption_column": ["" if group else "caption" for group in groups],
        },
    )


def test_items_without_label_or_features_are_told(tmp_path: Path) -> None:
    """Expected, by hand from `make_world`: three of the split lack a label, and two that have one lack features."""
    world = make_world(tmp_path)
    paths = {"features": world.features, "items": world.items, "split": world.split}
    told = (
        "Left out: 2 items of the split without features.",
        "Left out: 3 items of the split without 'label'.",
    )
    assert images.run(QUICK, labels="label", **paths).notes == told
    for one in word_retrieval.run(QUICK, labels="label", texts=world.texts, **paths):
        assert one.notes == told


def test_blank_captions_count_as_none(tmp_path: Path) -> None:
    """The test items have blank ones only, so that the validation items are judged, as without any."""
    blank = [" ", "", "\t", "a can", "a cup", "a can", None, "a cup"]
    paths = write_told(tmp_path, blank, ["test"] * 3 + ["val"] * 3 + ["train"] * 2)
    by_text, by_picture = word_retrieval.run_captions(QUICK, labels=["label"], **paths)
    assert (by_text.part, by_text.n_queries, by_text.n_gallery, by_picture.n_queries) == ("val", 2, 3, 3)
    assert by_text.notes[-1] == "Left out: 1 item of the split without 'caption'."


def test_where_all_captions_are_blank_it_is_said(tmp_path: Path) -> None:
    paths = write_told(tmp_path, [" ", "", " ", None], ["test", "test", "train", "train"])
    with pytest.raises(
        DataError, match="no item of the split 'split' has a caption: 'caption' is blank in all"
    ):
        word_retrieval.run_captions(QUICK, labels=["label"], **paths)


def test_the_command_for_missing_texts_makes_the_whole_view_anew(tmp_path: Path) -> None:
    """The view is written whole: a command that names less than is in it would lose the rest."""
    paths = write_told(tmp_path, ["a can", "a cup", "a lid", "a can"], ["test", "test", "train", "test"])
    few = tmp_path / "few.h5"
    write_texts_and_captions(few, [*CLASSES, "a can"])
    with pytest.raises(DataError, match=r"'a cup'.*\n.* --labels label --captions caption "):
        word_retrieval.run_captions(QUICK, labels=["label"], **{**paths, "texts": few})
    write_texts_and_captions(few, [*CLASSES[:2], *CAPTIONS])
    with pytest.raises(DataError, match=r"'Cup'.*\n.* --labels label --captions caption "):
        word_retrieval.run(QUICK, labels="label", **{**paths, "texts": few})


def test_a_class_may_have_more_texts_than_another(tmp_path: Path) -> None:
    paths = write_told(tmp_path, [*CAPTIONS, *CAPTIONS], ["test"] * 4)
    texts = ("Can", "a tin", *(name for name in CLASSES if name != "Can"))
    groups = ("Can", "Can", *texts[2:])
    write_features(
        tmp_path / "uneven.h5", [f"{i}" for i in range(5)], [key_of_text(text) for text in texts],
        vectors(groups, 0.1, 2), kind="text", columns={"text": texts, "group": groups, "template": ["{}"] * 5},
    )  # fmt: skip
    assert View(tmp_path / "uneven.h5").columns["group"].tolist() == list(groups)
    both = word_retrieval.run(QUICK, labels="label", **{**paths, "texts": tmp_path / "uneven.h5"})
    assert "text: the mean of 1 to 2 texts a class;" in both[0].protocol
