"""Segmented pictures on a terminal."""

from deponij.commands.show.tables import TOY_NOTE, Columns, show_lines, show_table
from deponij.services.segment.segment import NONE, Heated, Segmented, SegmentResult
from deponij.store.texts import in_percent

_N_SHOWN = 4


def print_segments(result: SegmentResult) -> None:
    """One row a picture: its largest classes, or where the heat is; what segmented, and what that is worth."""
    maps = [one for one in result.pictures if isinstance(one, Segmented)]
    heats = [one for one in result.pictures if isinstance(one, Heated)]
    if maps:
        columns: Columns[Segmented] = {
            "picture": lambda one: one.path,
            "largest classes": _largest,
            "overlay": lambda one: one.overlay,
        }
        show_table("", columns, maps, spare=["overlay"])
    if heats:
        shown: Columns[Heated] = {
            "picture": lambda one: one.path,
            "lowest": lambda one: f"{one.low:.3f}",
            "highest": lambda one: f"{one.high:.3f}",
            "at x, y": lambda one: f"{one.highest_at[0]}, {one.highest_at[1]}",
            "heat map": lambda one: one.heat,
        }
        show_table("", shown, heats, spare=["heat map", "lowest"])
    show_lines(*_lines(result))


def _largest(one: Segmented) -> str:
    told = [f"{name} {in_percent(share)}" for name, share in list(one.shares.items())[:_N_SHOWN]]
    more = len(one.shares) - _N_SHOWN
    told += [f"{more} more"] if more > 0 else []
    told += [f"{NONE} {in_percent(one.none)}"] if one.none else []
    return ", ".join(told)


def _lines(result: SegmentResult) -> list[str]:
    model = result.model
    height, width = model.window_px
    sees = f"windows of {height}x{width} px"
    if model.folder is None:
        said = [f"model     {model.told}, {sees} ({model.chosen})"]
    else:
        said = [f"model     {model.told}, {sees} ({model.folder})", f"learned   {model.protocol}"]
    said.append(f"written   {result.out}")
    if result.query is not None and not model.background:
        said.append(
            "note      brightest where the words fit best within each picture: it says where, not whether"
        )
    elif result.says_always and model.folder is None:
        said.append(
            "note      every pixel gets one of the classes, whatever it shows: --background WORDS or --threshold let it "
            "say none of these"
        )
    if model.toy:
        said.append(f"note      {TOY_NOTE}")
    return said
