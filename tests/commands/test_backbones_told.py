"""What the command line tells of backbones: the catalog at 80 columns, presets in `run`, the work ahead, help in groups."""

import io
from pathlib import Path
from typing import Any

import cli_world
import pytest
from cli_world import call, done
from rich.console import Console
from typer.main import get_command

from deponij import cli
from deponij.commands.show import backbones as shown
from deponij.commands.show import forecast as forecast_shown
from deponij.commands.show import tables
from deponij.commands.show.forecast import about, offered, print_work_ahead
from deponij.pipeline.backbones import list_backbones
from deponij.pipeline.backbones.presets import preset, presets
from deponij.project.extraction import forecast
from deponij.services.run import WorkAhead


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("n_pictures", [None, 100_000])
def test_at_80_columns_no_name_is_cut_and_no_two_rows_are_alike(
    n_pictures: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Console(file=io.StringIO(), width=80, highlight=False)
    monkeypatch.setattr(
        tables.show_table, "__kwdefaults__", tables.show_table.__kwdefaults__ | {"console": narrow}
    )
    rows = [row | {"seconds": 90_000.0} for row in list_backbones()]
    shown.print_backbones(rows, n_pictures)
    out = narrow.file.getvalue()  # type: ignore[attr-defined]
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for row in rows:
        # In the presets' table, perhaps, and in the catalog's.
        cells = [line for line in lines if f"│ {row['name']} " in line]
        assert 1 <= len(cells) <= 2
    catalog = lines[lines.index(next(line for line in lines if line.startswith("backbones:"))) :]
    told = [line for line in catalog if line.startswith("│")]
    assert len(told) == len(rows) == len(set(told))
    assert all(f"│ {name} " in out for name in presets())


def test_json_tells_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "gflops_per_s", lambda *_: 100.0)
    row = {one["name"]: one for one in done("backbones", "--pictures", 360, "--json").json}["dinov2-base"]
    assert (row["preset"], row["licence"], row["present"]) == ("good", "Apache-2.0", False)
    assert (row["n_params"], row["weights_bytes"]) == (86_580_480, 346_321_920)
    # Weights, 9.47 MB for each of 32 pictures, and the process.
    assert row["memory_bytes"] == 346_321_920 + int(32 * 9.47e6) + forecast.PROCESS_BYTES
    assert row["seconds"] == pytest.approx(360 * 46.3 / 100)
    assert "seconds" not in done("backbones", "--json").json[0]


def test_a_preset_and_a_backbone_are_too_much(tmp_path: Path) -> None:
    answer = call("run", "--folder", tmp_path, "--preset", "good", "--backbone", "dinov2-small")
    assert answer.status == 2
    assert "got --preset good (that is dinov2-base, siglip-base-16) and --backbone dinov2-small" in answer.err


def test_a_preset_whose_weights_are_not_here_says_how_to_bring_them(tmp_path: Path) -> None:
    cli_world.class_folders(tmp_path / "pictures")
    answer = call("run", "--folder", tmp_path / "pictures", "--preset", "good", "--out", tmp_path / "out")
    assert answer.status == 1
    for part in (
        "`deponij weights fetch --preset good`",
        "dinov2-base: about 346 MB, Apache-2.0",
        "siglip-base-16: about 813 MB, Apache-2.0",
        "together about 1.2 GB",
    ):
        assert part in answer.err
    assert not (tmp_path / "out").exists(), "said before any work"


def test_an_unknown_preset_lists_them() -> None:
    answer = call("run", "--folder", ".", "--preset", "god")
    assert answer.status == 2
    assert all(name in answer.err for name in presets())


def test_times_are_told_roughly() -> None:
    seconds = (0.2, 8.4, 89.0, 360.0, 5399.0, 9000.0)
    assert [about(one) for one in seconds] == [
        "about 1 s",
        "about 8 s",
        "about 89 s",
        "about 6 min",
        "about 90 min",
        "about 2.5 h",
    ]


def test_one_line_offers_more() -> None:
    offer = forecast.Offer(preset("good"), "cpu", 360, 1_158_945_800, 372.0)
    assert offered(offer) == (
        "`--preset good` takes dinov2-base + siglip-base-16 instead: about 1.2 GB once, Apache-2.0, about 6 min for "
        "these 360 pictures on this CPU"
    )


def test_the_work_ahead_is_told_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    def of(
        backbone: str, basis: forecast.Basis, n_new: int, seconds: float | None, memory_bytes: int
    ) -> forecast.Forecast:
        return forecast.Forecast(
            backbone,
            "MIT",
            True,
            4,
            memory_bytes,
            2_000_000_000,
            360,
            n_new,
            seconds,
            basis,
            10 * (basis == "trial"),
        )

    told = (
        of("one", "trial", 360, 12.3, 444_000_000),
        of("two", "estimate", 9, 400.0, 3_000_000_000),
        of("three", "known", 0, None, 3_000_000_000),
        of("four", "few", 3, None, 1),
    )
    print_work_ahead(WorkAhead(told, None))
    captured = capsys.readouterr()
    assert captured.out == "", "no answer, so not on standard output"
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in map(_cells, captured.err.splitlines())
    }
    assert rows["one"] == ["MIT", "444 MB", "360 of 360", "about 12 s"]
    assert rows["two"][-2:] == ["9 of 360", "about 7 min"]
    assert [rows["three"][-1], rows["four"][-1]] == ["nothing to do", "a moment"]
    assert "from a trial of 10 of these pictures" in captured.err
    assert "two: from the operations of its forward pass" in captured.err
    # Only what will be run can take too much memory.
    assert captured.err.count("are free: take a smaller --batch-size") == 1
    assert "two: about 3.0 GB of memory, and 2.0 GB are free" in captured.err


def test_the_work_ahead_fits_into_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_shown, "Console", lambda **more: Console(**(more | {"width": 80})))
    one = forecast.Forecast(
        "convnext-base-w-320", "Apache-2.0", True, 4, 1_600_000_000, None, 12_345, 12_345, 9000.0, "trial", 10
    )
    print_work_ahead(WorkAhead((one,), None))
    rows = [line for line in capsys.readouterr().err.splitlines() if line.startswith("│")]
    assert len(rows) == 1 and len(rows[0]) <= 80
    assert "convnext-base-w-320" in rows[0] and "12,345 of 12,345" in rows[0] and "about 2.5 h" in rows[0]


def test_where_no_backbone_runs_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_work_ahead(WorkAhead((), None))
    assert capsys.readouterr() == ("", "")


def _cells(line: str) -> list[str]:
    return line.split("│") if line.count("│") > 2 else ["", line, ""]


def test_help_is_grouped() -> None:
    def panels(command: Any) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for parameter in command.params:
            found.setdefault(parameter.rich_help_panel or "Options", set()).add(parameter.name)
        return found

    app: Any = get_command(cli.app)
    of_run = panels(app.commands["run"])
    assert {"folder", "table", "coco", "parquet"} <= of_run["Data"]
    assert of_run["Model"] == {"preset", "backbone", "input_px", "tune", "tune_set", "precision", "classes"}
    assert {"labels", "split", "seed"} <= of_run["Labels and split"]
    assert of_run["Machine"] == {"depot", "device", "batch_size", "workers", "threads"}
    placed = {name: command.rich_help_panel for name, command in app.commands.items()}
    assert placed["backbones"] == placed["weights"] == "Choosing a backbone"
    assert placed["mistakes"] == placed["duplicates"] == "Looking after pictures"
    assert placed["retrieval"] == placed["query"] == "Searching"
    assert all(placed.values()), "every command has its place"
