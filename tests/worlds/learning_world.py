"""A made-up world for the learning stages: coloured pictures, a split, image and text views of two models."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from deponij.pipeline.heads.registry import head_class
from deponij.project.learning.learn import HeadParams, HeadResult, learn
from deponij.store.atomic import write_table
from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_view

CLASSES = ("Bottle", "Can", "Cup", "Lid")
DIM = 16


@dataclass(frozen=True)
class World:
    """Paths of everything, and what was put there."""

    items: Path
    split: Path
    features: Path
    texts: Path
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    parts: tuple[str | None, ...]
    failed: tuple[str, ...]
    maps: Path
    depot: Path


def identity(kind: str, weights: str = "w" * 64) -> Identity:
    return Identity("open_clip:tiny", weights, kind, "resize", "pillow:full", "fp32", "float32")


def vectors(labels: Sequence[str | None], noise: float, seed: int) -> np.ndarray:
    """One direction a class, plus noise; [n, DIM] float32."""
    rng = np.random.default_rng(seed)
    centres = np.eye(len(CLASSES), DIM)
    rows = [centres[CLASSES.index(label)] if label in CLASSES else np.zeros(DIM) for label in labels]
    return (np.array(rows) + noise * rng.normal(size=(len(rows), DIM))).astype(np.float32)


def write_features(
    path: Path,
    ids: Sequence[str],
    keys: Sequence[str],
    embedding: np.ndarray,
    *,
    kind: str = "embedding",
    weights: str = "w" * 64,
    columns: dict[str, Sequence[str]] | None = None,
    failures: Sequence[tuple[str, str]] = (),
    backbone: str = "tiny",
) -> None:
    arrays = {"embedding": embedding}
    write_view(
        path,
        identity=identity(kind, weights),
        backbone=backbone,
        ids=ids,
        keys=keys,
        checksums=row_checksums(arrays, len(ids)),
        arrays=arrays,
        columns=columns or {},
        failures=failures,
    )


def dense_identity(kind: str = "dense@1") -> Identity:
    transform = json.dumps({"crop_px": None, "resize_px": [28, 42]})
    return replace(identity(kind), stored="float16", transform=transform)


def write_maps(
    path: Path, depot: Path, features: Path, *, kind: str = "dense@1", **arrays: np.ndarray
) -> None:
    """A dense view of the items of another view, and its rows in a depot: name -> [n, …]."""
    view = View(features)
    dense = dense_identity(kind)
    with FeatureStore(depot, create=True).writer(dense, {"torch": "2"}) as writer:
        writer.add(view.keys.tolist(), arrays)
    write_view(
        path,
        identity=dense,
        backbone="tiny",
        ids=view.ids.tolist(),
        keys=view.keys.tolist(),
        checksums=row_checksums(arrays, len(view)),
        arrays={},
        failures=view.failures,
    )


def grids(vectors: np.ndarray) -> np.ndarray:
    """Maps float16 [n, d, 2, 3] whose cells lie around vectors [n, d]."""
    around = 0.1 * np.random.default_rng(9).normal(size=(1, 1, 2, 3))
    return (vectors[:, :, None, None] + around).astype(np.float16)


def write_texts(
    path: Path, groups: Sequence[str], templates: Sequence[str] = ("{}",), weights: str = "w" * 64
) -> None:
    rows = [(group, template) for group in groups for template in templates]
    texts = [template.format(group) for group, template in rows]
    labels = [group for group, _ in rows]
    write_features(
        path,
        [f"{i}" for i in range(len(rows))],
        [key_of_text(text) for text in texts],
        vectors(labels, noise=0.05, seed=1) + np.float32(0.01),
        kind="text",
        weights=weights,
        columns={"text": texts, "group": labels, "template": [template for _, template in rows]},
    )


def write_items(path: Path, rows: Sequence[tuple[str, bytes | None, str | None]]) -> None:
    with ItemWriter(path, pa.schema([("label", pa.string()), ("area", pa.float32())])) as writer:
        for item_id, content, label in rows:
            writer.add(
                item_id=item_id,
                key=None if content is None else key_of_bytes(content),
                image_id=item_id.split("#")[0],
                width_px=24,
                height_px=32,
                content=content,
                failure="not a picture" if content is None else None,
                metadata={"label": label, "area": 1.5},
            )


def write_split(path: Path, ids: Sequence[str], parts: Sequence[str | None]) -> None:
    write_table(path, pa.table({"item_id": list(ids), "part": pa.array(parts, pa.string())}))


def picture(seed: int) -> bytes:
    colour = np.random.default_rng(seed).integers(0, 255, size=3)
    pixels = np.full((32, 24, 3), colour, dtype=np.uint8)
    pixels[8:16] //= 2
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make_world(root: Path, n: int = 120, noise: float = 0.3) -> World:
    """n items: two fail (one as an item, one in the view), three lack a label, four lie outside the pool."""
    ids = [f"photo{i // 2}.jpg#{i % 2}" for i in range(n)]
    labels: list[str | None] = [CLASSES[i % len(CLASSES)] for i in range(n)]
    parts: list[str | None] = [
        ("train", "train", "train", "val", "test", "test")[i // 4 % 6] for i in range(n)
    ]
    labels[5] = labels[21] = labels[40] = None
    parts[8] = parts[9] = parts[50] = parts[51] = None
    contents: list[bytes | None] = [picture(i) for i in range(n)]
    contents[12] = None
    write_items(root / "items", list(zip(ids, contents, labels, strict=True)))
    write_split(root / "split.parquet", ids, parts)
    embedding = vectors(labels, noise, seed=0)
    kept = [i for i in range(n) if i not in (12, 30)]
    shuffled = np.random.default_rng(3).permutation(kept)
    write_features(
        root / "view.h5",
        [ids[i] for i in shuffled],
        [key_of_bytes(content) for i in shuffled if (content := contents[i])],
        embedding[shuffled],
        failures=[(ids[12], "not a picture"), (ids[30], "decoder died")],
    )
    write_texts(root / "texts.h5", CLASSES, ("{}", "a photo of a {}"))
    write_maps(root / "maps.h5", root / "depot", root / "view.h5", block1=grids(embedding[shuffled]))
    return World(
        root / "items",
        root / "split.parquet",
        root / "view.h5",
        root / "texts.h5",
        tuple(ids),
        tuple(labels),
        tuple(parts),
        (ids[12], ids[30]),
        root / "maps.h5",
        root / "depot",
    )


def learned(
    world: World,
    head: str,
    out: Path | None = None,
    arguments: dict[str, Any] | None = None,
    templates: tuple[str, ...] | None = None,
    **changes: Any,
) -> HeadResult:
    """A head of the registry, learned in this world."""
    inputs = {
        "features": world.maps if head_class(head).reads == "maps" else world.features,
        "depot": str(world.depot),
        "items": world.items,
        "split": world.split,
        "labels": "label",
    } | changes
    params = HeadParams(head=head, arguments=arguments or {}, templates=templates)
    return learn(params, **{**inputs, "features": [inputs["features"]]}, out=out)
