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
    "--webdataset": "--webdataset SHARDS",
    "--video": "--video PATH",
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
    webdataset: Sequence[str] | None = None,
    video: Path | None = None,
    fps: float | None = None,
    every: int | None = None,
    label_field: str | None = None,
    downloads: Path | None = None,
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
        "--webdataset": ("webdataset", {"shards": tuple(webdataset or ())}),
        "--video": ("video", {"videos": video}),
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
    if adapter not in ("coco", "listed") and images is not None:
        raise UsageError(
            f"--images is for a COCO file or a table; {given[0]} says by itself where pictures are"
        )
    if adapter not in ("coco", "yolo", "voc") and (boxes or keep_crowds):
        flag = "--boxes" if boxes else "--keep-crowds"
        raise UsageError(f"{flag} is for annotated instances; {given[0]} names whole pictures")
    if adapter != "coco" and boxes:
        raise UsageError(f"--boxes is for a COCO file (--coco); {given[0]} knows the form of its own")
    if adapter != "listed" and (label_separator or label_columns):
        flag = "--label-separator" if label_separator else "--label-columns"
        raise UsageError(f"{flag} is for a table (--table); {given[0]} knows by itself what a label is")
    if adapter != "listed" and path_column:
        raise UsageError(
            f"--path-column is for a table of paths (--table); {given[0]} names its pictures by itself"
        )
    if adapter not in ("coco", "yolo", "voc") and whole:
        raise UsageError(f"--whole is for annotated instances; {given[0]} names whole pictures already")
    _refuse_others(
        given[0],
        {
            "--fps": ("video", fps),
            "--every": ("video", every),
            "--label-field": ("webdataset", label_field),
            "--downloads": ("table", downloads),
        },
    )
    if adapter in ("parquet", "unpictured", "webdataset") and links_into:
        raise UsageError(f"--links-into is for pictures in folders, and {given[0]} names none")
    more: dict[str, Any] = {
        "path_column": path_column,
        "label_separator": label_separator,
        "label_columns": tuple(label_columns),
        "whole": whole,
        "images": images,
        "treat": dict(treat or {}),
        "links_into": tuple(links_into),
        "boxes": boxes,
        "fps": fps,
        "every": every,
        "label_field": label_field,
        "downloads": downloads,
        "crop": {"keep_crowds": True} if keep_crowds else None,
    }
    return SourceChoice(adapter, where | {name: value for name, value in more.items() if value})


def _refuse_others(given: str, flags: Mapping[str, tuple[str, object]]) -> None:
    """Refuse flags of another kind of data set than the one that is given."""
    for flag, (of, value) in flags.items():
        if value is not None and given != f"--{of}":
            raise UsageError(f"{flag} goes with --{of}; got {given}")


def _one_or_several(paths: Path | Sequence[Path] | None) -> Path | tuple[Path, ...] | None:
    if paths is None or isinstance(paths, Path):
        return paths
    return paths[0] if len(paths) == 1 else tuple(paths)
