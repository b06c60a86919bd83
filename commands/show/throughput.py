"""What backbones cost on this device, in a terminal: a row a batch size, at most 80 columns."""

from typing import Any

from deponij.commands.show.tables import show_lines, show_notes, show_table
from deponij.project.extraction.weight_sizes import size
from deponij.services.throughput import Measured, OfBatch, Throughput

Row = tuple[Measured, OfBatch]


def print_throughput(throughput: Throughput) -> None:
    """The table, and what is to be done about those that are not in it."""
    on = "" if throughput.device_name is None else f" ({throughput.device_name})"
    on += (
        f", {throughput.threads} thread{'' if throughput.threads == 1 else 's'}"
        if throughput.device == "cpu"
        else ""
    )
    rows = [(one, batch) for one in throughput.backbones for batch in one.batches]
    columns: dict[str, Any] = {
        "name": _first(lambda one: one.name),
        "params": _first(lambda one: f"{(one.n_params or 0) / 1e6:,.1f} M"),
        "GFLOPs": _first(lambda one: f"{one.gflops:.3g}"),
        "on\ndisk": _first(lambda one: size(one.weights_bytes or 0)),
        "batch": lambda row: row[1].size,
        "pictures\nper s": lambda row: _rate(row[1]),
        "memory": lambda row: "" if row[1].peak_bytes is None else size(row[1].peak_bytes),
    }
    if rows:
        title = f"backbones on {throughput.device}{on}, {throughput.precision}"
        show_table(title, columns, rows, section=lambda row: row[0].name, spare=("on\ndisk", "GFLOPs"))
        show_notes(
            [
                "params: of the tower that looks at pictures; GFLOPs: 10^9 operations a picture",
                "pictures per s: of the model alone, by the median batch, on random numbers",
                f"memory: at its peak beyond the loaded model, {_how(throughput.device)}",
            ]
        )
    for one in throughput.backbones:
        if one.problem is not None:
            show_lines(
                f"{one.name} is not measured: {one.problem.removeprefix(f'{one.name}: ')}", style="yellow"
            )


def _first(told: Any) -> Any:
    """Said in the first of a backbone's rows."""
    return lambda row: told(row[0]) if row[1] is row[0].batches[0] else ""


def _rate(batch: OfBatch) -> str:
    if batch.pictures_per_s is None:
        return "no room"
    return f"{batch.pictures_per_s:,.0f}" if batch.pictures_per_s >= 100 else f"{batch.pictures_per_s:.3g}"


def _how(device: str) -> str:
    if device.startswith("cuda"):
        return "as torch counts what it takes of the GPU"
    return (
        "the process's resident memory, looked at each ms" if device == "cpu" else "not known of this device"
    )
