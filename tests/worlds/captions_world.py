"""Twenty items with captions that repeat, one without, one blank; texts hold classes and captions."""

from pathlib import Path

import pyarrow as pa
from learning_world import CLASSES, World, picture, vectors, write_features, write_split

from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text

CAPTIONS = ("a red can", "a blue cup", "a lid", "a torn bottle")


def caption_of(i: int) -> str | None:
    return None if i == 3 else " " if i == 7 else CAPTIONS[(3 * i + i // 5) % 4]


def make_told(root: Path) -> World:
    ids = [f"{i}.jpg" for i in range(20)]
    labels = [CLASSES[i % 4] for i in range(20)]
    parts = ["test" if i < 12 else "train" for i in range(20)]
    columns = pa.schema([("label", pa.string()), ("caption", pa.string())])
    with ItemWriter(root / "items", columns) as writer:
        for i, item_id in enumerate(ids):
            content = picture(i)
            writer.add(
                item_id=item_id,
                key=key_of_bytes(content),
                image_id=f"{i // 3}",
                width_px=24,
                height_px=32,
                content=content,
                metadata={"label": labels[i], "caption": caption_of(i)},
            )
    write_split(root / "split.parquet", ids, parts)
    write_features(
        root / "view.h5", ids, [key_of_bytes(picture(i)) for i in range(20)], vectors(labels, 0.7, 0)
    )
    texts = [*CLASSES, *CAPTIONS]
    write_features(
        root / "texts.h5",
        [f"{i}" for i in range(8)],
        [key_of_text(text) for text in texts],
        vectors([*CLASSES, *CLASSES], 0.3, 1),
        kind="text",
        columns={
            "text": texts,
            "group": [*CLASSES, *[""] * 4],
            "template": ["{}"] * 4 + [""] * 4,
            "caption_column": [""] * 4 + ["caption"] * 4,
        },
    )
    return World(
        root / "items", root / "split.parquet", root / "view.h5", root / "texts.h5",
        tuple(ids), tuple(labels), tuple(parts), (), root / "maps.h5", root / "depot",
    )  # fmt: skip
