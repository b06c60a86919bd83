"""The catalog and its presets in a terminal: a name is never cut, and everything fits into 80 columns."""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from deponij.commands.show.forecast import about
from deponij.commands.show.tables import show_notes, show_table
from deponij.pipeline.backbones.presets import Preset, presets
from deponij.project.extraction.weight_sizes import size

Row = dict[str, Any]


def print_backbones(rows: Sequence[Row], n_pictures: int | None) -> None:
    """Presets first, for who wants to choose one of four; then every backbone."""
    by_name = {row["name"]: row for row in rows}
    _print_presets(by_name, n_pictures)
    _print_catalog(rows, n_pictures)
    toys = ", ".join(row["name"] for row in rows if row["toy"])
    notes = [
        f"toys, which learnt from drawn litter only: {toys}",
        "size: of the download, about; GFLOPs: 10^9 operations a picture; words: knows texts, too",
        "new:NETWORK@SIZE, as new:resnet-18@224, is a network to train from nothing (docs/tuning.md)",
        "`deponij weights fetch NAME`, or `--preset NAME`, brings weights; --json tells all the rest",
    ]
    if n_pictures is None:
        notes.append("--pictures N says how long N pictures take on this device")
    else:
        notes.append(f"time: of {n_pictures:,} pictures, by what this device does in a second: an estimate")
    show_notes(notes)


def _print_presets(by_name: dict[str, Row], n_pictures: int | None) -> None:
    def summed(preset: Preset, key: str) -> float:
        return sum(by_name[name][key] or 0 for name in preset.backbones)

    def download(preset: Preset) -> str:
        absent = [by_name[name]["weights_bytes"] for name in preset.backbones if not by_name[name]["present"]]
        return size(sum(absent)) if absent else "here"

    columns: dict[str, Any] = {
        "preset": lambda one: one.name,
        "backbones": lambda one: Text("\n".join(one.backbones)),
        "size": download,
        "GFLOPs": lambda one: f"{summed(one, 'gflops'):.3g}",
    }
    # Both would not fit beside the names.
    if n_pictures is None:
        columns["for"] = lambda one: one.says
    else:
        columns["time"] = lambda one: about(summed(one, "seconds"))
    show_table("presets: deponij run --preset NAME", columns, presets().values())


def _print_catalog(rows: Sequence[Row], n_pictures: int | None) -> None:
    columns: dict[str, Any] = {
        "name": lambda row: row["name"],
        "preset": lambda row: row["preset"],
        "size": lambda row: "here" if row["present"] else size(row["weights_bytes"]),
        "GFLOPs": lambda row: "" if row["gflops"] is None else f"{row['gflops']:.3g}",
    }
    if n_pictures is None:
        columns |= {"words": lambda row: row["has_text"], "dim": lambda row: row["dim"]}
    else:
        columns["time"] = lambda row: "" if row["seconds"] is None else about(row["seconds"])
    columns["licence"] = lambda row: row["licence"]
    show_table("backbones: deponij run --backbone NAME", columns, rows)
