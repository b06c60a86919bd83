"""`deponij bench backbones`: what is measured of a tiny model, and what is said of those that cannot be."""

import io
import os
from pathlib import Path

import pytest
import tiny_models
import torch
from cli_world import call, done
from rich.console import Console

from deponij.commands.show import tables
from deponij.commands.show.throughput import print_throughput
from deponij.pipeline.backbones import load
from deponij.project.frame.settings import RunOptions
from deponij.services import throughput
from deponij.services.throughput import Measured, OfBatch, Throughput, measure, measure_backbones
from deponij.store.errors import BackboneError, UsageError

ONE = RunOptions(device="cpu", threads=1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_models.open_clip_vit(tmp_path / "tiny")


def test_what_is_measured_of_a_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "usual_s", lambda once, least: once() or 0.5)
    found = measure(str(tiny), [1, 4], "cpu", "fp32", 1)
    # The picture tower alone, by hand: patches of 8 px, 16 of them and a class token; two blocks of width 64.
    width, tokens = 64, 17
    block = 12 * width**2 + 13 * width
    assert found.n_params == 3 * 8 * 8 * width + width + tokens * width + 4 * width + 2 * block + width * 24
    assert found.weights_bytes == (tiny / "open_clip_model.safetensors").stat().st_size
    products = 16 * 3 * 64 * width + 2 * (tokens * 12 * width**2 + 2 * tokens**2 * width) + width * 24
    assert found.gflops == pytest.approx(2 * products / 1e9, rel=1e-3)
    assert (found.input_px, found.problem) == ((32, 32), None)
    assert [(one.size, one.pictures_per_s) for one in found.batches] == [(1, 2.0), (4, 8.0)]
    assert all(one.peak_bytes is not None for one in found.batches)


def test_batches_that_do_not_fit_are_told_and_smaller_ones_stay(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usual(once: object, least: int) -> float:
        sizes.append(least)
        if len(sizes) == 2:
            raise torch.OutOfMemoryError
        return 1.0

    sizes: list[int] = []
    monkeypatch.setattr(throughput, "usual_s", usual)
    first, second = measure(str(tiny), [1, 4], "cpu", "fp32", 1).batches
    assert (first.pictures_per_s, second.pictures_per_s, second.peak_bytes) == (1.0, None, None)


def test_one_that_is_not_here_or_fails_ends_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tiny.parent / "hub"))
    damaged = tiny_models.open_clip_vit(tiny.parent / "damaged")
    (damaged / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BackboneError):
        load(str(damaged))
    told: list[str] = []
    found = measure_backbones(["dinov2-small", str(damaged), str(tiny)], [2], "fp32", ONE, told.append)
    absent, broken, good = found.backbones
    assert told == ["dinov2-small", str(damaged), str(tiny)]
    assert absent.problem is not None and "`deponij weights fetch dinov2-small`" in absent.problem
    assert broken.problem is not None and "open_clip_model.safetensors" in broken.problem
    assert good.problem is None and good.batches[0].pictures_per_s is not None
    assert good.batches[0].pictures_per_s > 0 and good.batches[0].peak_bytes is not None
    assert (found.device, found.threads, found.precision) == ("cpu", 1, "fp32")


def _dies(*_: object) -> Measured:
    os._exit(9)


def test_a_process_that_is_ended_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "measure", _dies)
    (found,) = measure_backbones([str(tiny)], [1], "fp32", ONE).backbones
    assert found.problem is not None and "out of memory" in found.problem


@pytest.mark.parametrize("sizes", [[], [0], [8, -1]])
def test_sizes_are_above_nothing(sizes: list[int]) -> None:
    with pytest.raises(UsageError, match="batch sizes are whole numbers above 0"):
        measure_backbones(["mini-openclip"], sizes, "fp32", ONE)


def test_an_unknown_name_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_in_its_own_process", pytest.fail)
    with pytest.raises(UsageError, match="mini-openclip"):
        measure_backbones(["mini-openclip", "mini-openclop"], [1], "fp32", ONE)


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Measured(name="mini-openclip", n_params=1, gflops=0.1, weights_bytes=5, batches=())
    monkeypatch.setattr(throughput, "_in_its_own_process", lambda *told: asked.append(told) or row)
    asked: list[tuple[object, ...]] = []
    document = done(
        "bench",
        "backbones",
        "mini-openclip",
        "--batch-sizes",
        "8,1",
        "--device",
        "cpu",
        "--threads",
        1,
        "--json",
    ).json
    assert asked == [("mini-openclip", [1, 8], "cpu", "fp32", 1)]
    assert document["backbones"][0]["n_params"] == 1
    answer = call("bench", "backbones", "mini-openclip", "--batch-sizes", "1,x")
    assert answer.status == 2 and "got '1,x'" in answer.err


def test_the_table_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(file=io.StringIO(), width=80, highlight=False)
    for name in ("show_table", "show_notes", "show_lines"):
        monkeypatch.setattr(getattr(tables, name), "__kwdefaults__", _with_console(name, narrow))
    batches = (
        OfBatch(size=1, pictures_per_s=12_345.6, peak_bytes=123_000_000),
        OfBatch(size=32, pictures_per_s=None, peak_bytes=None),
    )
    big = Measured(
        name="convnext-base-w-320",
        n_params=88_000_000,
        gflops=31.4,
        weights_bytes=718_000_000,
        batches=batches,
    )
    gone = Measured(name="dinov2-giant", problem="dinov2-giant: weights are not on this machine.")
    print_throughput(
        Throughput(device="cuda", device_name="NVIDIA", threads=4, precision="bf16", backbones=(big, gone))
    )
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert max(len(line) for line in lines if line.startswith("│")) <= 80
    assert rows == [
        ["convnext-base-w-320", "88.0 M", "31.4", "718 MB", "1", "12,346", "123 MB"],
        ["", "", "", "", "32", "no room", ""],
    ]
    assert any("dinov2-giant is not measured: weights are not on this machine" in line for line in lines)


def _with_console(name: str, console: Console) -> dict[str, object]:
    return {**(getattr(tables, name).__kwdefaults__ or {}), "console": console}
