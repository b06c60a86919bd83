"""Which adapter reads the data set that flags name, and with which options. What they do: `pipeline.data.adapters`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.data.adapters.listed import names_pictures
from deponij.store.errors import UsageError

# Flags of data sets, as they are written.
_DATA_SETS = {
    "--folder": "--folder DIR",
    "--table": "--table FILE",
    "--coco": "--coco FILE --images DIR",
    "--yolo": "--yolo FILE",
    "--voc": "--voc DIR",
    "--parquet": "--parquet FILE",
    "--shards": "--shards FILES",
    "--video": "--video DIR",
}
_ANNOTATED = ("coco", "yolo", "voc")
# Flags that say more of a data set: of which adapters they are, and why not of the one that is named.
_ONLY_FOR: Mapping[str, tuple[Collection[str], str]] = {
    "--images": (("coco", "listed"), "a COCO file or a table; {} says by itself where pictures are"),
    "--boxes": (("coco",), "a COCO file (--coco); {} names whole pictures, or knows the form of its own"),
    "--keep-crowds": (_ANNOTATED, "annotated instances; {} names whole pictures"),
    "--label-separator": (("listed",), "a table (--table); {} knows by itself what a label is"),
    "--label-columns": (("listed",), "a table (--table); {} knows by itself what a label is"),
    "--path-column": (("listed",), "a table of paths (--table); {} names its pictures by itself"),
    "--fetch": (("listed",), "addresses in a table (--table); {} has its pictures by itself"),
    "--fps": (("video",), "videos (--video); {} names pictures"),
    "--every": (("video",), "videos (--video); {} names pictures"),
    "--label-field": (("webdataset",), "tar shards (--shards); {} has no JSON of samples"),
    "--whole": (_ANNOTATED, "annotated instances; {} names whole pictures already"),
    "--links-into": (
        (*_ANNOTATED, "folder", "listed", "video", "webdataset"),
        "pictures in folders, and {} names none",
    ),
}


@dataclass(frozen=True)
class SourceChoice:
    """An adapter and its options."""

    adapter: str
    options: Mapping[str, Any]


def source_of(
    *,
    folder: Path | None = None,
    table: Path | None = None,
    coco: Path | Sequence[Path] | None = None,
    images: Path | None = None,
    yolo: Path | None = None,
    voc: Path | None = None,
    parquet: Sequence[Path] | None = None,
    shards: Sequence[Path] | None = None,
    video: Path | None = None,
    fps: float | None = None,
    every: int | None = None,
    label_field: str | None = None,
    fetch: bool = False,
    path_column: str | None = None,
    label_separator: str | None = None,
    label_columns: Sequence[str] = (),
    whole: bool = False,
    treat: Mapping[str, str] | None = None,
    boxes: str | None = None,
    keep_crowds: bool = False,
    links_into: Sequence[Path] = (),
    embeddings: Sequence[Path] = (),
    ids: str | None = None,
    offered: Collection[str] = tuple(_DATA_SETS),
) -> SourceChoice:
    """The data set that the flags name.

    Args:
        embeddings, ids: that are given; alone, or beside a table without paths, they are of items without pictures.
        offered: flags of data sets that the command has, for messages.

    Raises:
        UsageError: none or several of them, or a flag of another kind of data set.
    """
    named: dict[str, tuple[str, dict[str, Any]]] = {
        "--folder": ("folder", {"folder": folder}),
        "--table": ("listed", {"table": table}),
        "--coco": ("coco", {"annotations": _one_or_several(coco)}),
        "--yolo": ("yolo", {"data": yolo}),
        "--voc": ("voc", {"folder": voc}),
        "--parquet": ("parquet", {"files": tuple(parquet or ())}),
        "--shards": ("webdataset", {"shards": tuple(shards or ())}),
        "--video": ("video", {"folder": video}),
    }
    if embeddings and not any(all(where.values()) for _, where in named.values()):
        beside = {"ids": ids} if ids else {}
        return SourceChoice("unpictured", {"table": embeddings[0], "has_vectors": True, **beside})
    if embeddings and table is not None and images is None and not names_pictures(table):
        named["--table"] = ("unpictured", {"table": table})
    given = [flag for flag, (_, where) in named.items() if all(where.values())]
    if len(given) != 1:
        raise UsageError(
            f"name one data set: {' or '.join(_DATA_SETS[flag] for flag in offered)}; got "
            f"{' and '.join(given) or 'none'}"
        )
    adapter, where = named[given[0]]
    if adapter == "coco" and images is None:
        raise UsageError("--coco FILE and --images DIR go together")
    asked = {
        "--images": images is not None,
        "--boxes": boxes,
        "--keep-crowds": keep_crowds,
        "--label-separator": label_separator,
        "--label-columns": label_columns,
        "--path-column": path_column,
        "--fetch": fetch,
        "--fps": fps,
        "--every": every,
        "--label-field": label_field,
        "--whole": whole,
        "--links-into": links_into,
    }
    for flag, (adapters, why) in _ONLY_FOR.items():
        if asked[flag] and adapter not in adapters:
            raise UsageError(f"{flag} is for {why.format(given[0])}")
    more: dict[str, Any] = {
        "path_column": path_column,
        "fps": fps,
        "every": every,
        "label_field": label_field,
        "fetch": fetch,
        "label_separator": label_separator,
        "label_columns": tuple(label_columns),
        "whole": whole,
        "images": images,
        "treat": dict(treat or {}),
        "links_into": tuple(links_into),
        "boxes": boxes,
        "crop": {"keep_crowds": True} if keep_crowds else None,
    }
    return SourceChoice(adapter, where | {name: value for name, value in more.items() if value})


def _one_or_several(paths: Path | Sequence[Path] | None) -> Path | tuple[Path, ...] | None:
    if paths is None or isinstance(paths, Path):
        return paths
    return paths[0] if len(paths) == 1 else tuple(paths)
