"""What an extraction will take: rows that are new, where the time comes from, and what an offer sums up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import numpy as np
import psutil
import pytest

from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.backbones.presets import preset
from deponij.project.extraction import forecast
from deponij.project.frame.settings import RunOptions
from deponij.stages import extract
from deponij.stages import items as items_stage
from deponij.store.depot import FeatureStore
from deponij.store.items import Items

# Of the class folders, one picture cannot be read.
N_PICTURES = 3 * cli_world.N_PER_CLASS


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)


@pytest.fixture
def items(tmp_path: Path, options: RunOptions) -> Path:
    folder = cli_world.class_folders(tmp_path / "pictures")
    items_stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=options)
    return tmp_path / "items"


@pytest.fixture
def found(tmp_path: Path) -> Any:
    return extract.found_backbone(extract.ExtractParams(), str(fake_backbone.make(tmp_path / "model")))


def told(found: Any, items: Path, options: RunOptions) -> forecast.Forecast:
    (one,) = forecast.forecasts([found], items, options)
    return one


def fill(found: Any, items: Path, options: RunOptions, n_left_out: int) -> None:
    """Rows of all but the last few pictures are put into the depot."""
    keys = [key for key in Items(items).keys if key is not None][: N_PICTURES - n_left_out]
    with FeatureStore(options.depot, create=True).writer(found.identity, {}) as rows:
        rows.add(keys, {"embedding": np.zeros((len(keys), fake_backbone.DIM), np.float32)})


class Clock:
    """A clock that the model's passes move, in the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(("device", "picture_s"), [("cpu", 0.02 + 0.005), ("cuda", 0.02)])
def test_a_trial_looks_at_ten_of_the_new_pictures_and_keeps_nothing(
    found: Any,
    items: Path,
    options: RunOptions,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    picture_s: float,
) -> None:
    """A picture takes 20 ms in the model and 5 ms until it is decoded, which a GPU does not wait for; and reading."""
    looked: list[list[str]] = []
    clock = Clock()

    def look_at(maker: Any, table: Any, keys: list[str], progress: Any) -> None:
        looked.append(list(keys))
        progress.n_rows += len(keys)
        for part, each in (("forward", 0.02), ("decode", 0.01), ("read", 0.006)):
            progress.busy_s[part] += each * len(keys)
        # Two threads decode.
        clock.now += (0.02 + 0.01 / 2 + 0.006) * len(keys)

    monkeypatch.setattr(forecast, "time", clock)
    monkeypatch.setattr(forecast, "_look_at", look_at)
    monkeypatch.setattr(forecast, "pick_device", lambda wanted: "cpu")
    monkeypatch.setattr("deponij.project.extraction.feature_maker.pick_device", lambda wanted: device)
    one = told(found, items, options)
    assert (one.n_pictures, one.n_new, one.basis, one.n_tried) == (N_PICTURES, N_PICTURES, "trial", 10)
    assert one.seconds == pytest.approx(N_PICTURES * picture_s)
    # One alone, twice; ten to warm up; ten, 0.31 s each time, until a second and a half is over.
    assert [len(keys) for keys in looked] == [1, 1, 10, *[10] * 5]
    assert len(set(looked[-1])) == 10
    assert FeatureStore(options.depot).sidecars == []


def test_a_slow_model_looks_at_fewer(
    found: Any, items: Path, options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, n_passes = Clock(), 0

    def look_at(maker: Any, table: Any, keys: list[str], progress: Any) -> None:
        nonlocal n_passes
        n_passes += 1
        # The first pass makes kernels.
        each = 5.0 if n_passes == 1 else 0.6
        progress.n_rows += len(keys)
        progress.busy_s["forward"] += each * len(keys)
        clock.now += each * len(keys)

    monkeypatch.setattr(forecast, "time", clock)
    monkeypatch.setattr(forecast, "_look_at", look_at)
    one = told(found, items, options)
    # Two by two, 1.2 s each time, until a second and a half is over.
    assert (one.n_tried, one.seconds) == (4, pytest.approx(N_PICTURES * 0.6))
    assert n_passes == 2 + 2


def test_free_memory_is_of_the_device(found: Any, items: Path, options: RunOptions) -> None:
    fill(found, items, options, n_left_out=0)
    free = told(found, items, options).memory_free_bytes
    assert free is not None and 0 < free <= psutil.virtual_memory().total


def test_a_real_trial_runs_the_model(found: Any, items: Path, options: RunOptions) -> None:
    one = told(found, items, options)
    assert (one.basis, one.n_tried, one.licence, one.memory_bytes) == ("trial", 10, None, None)
    assert one.seconds is not None and one.seconds > 0
    assert FeatureStore(options.depot).sidecars == []


def test_only_new_rows_take_time(found: Any, items: Path, options: RunOptions) -> None:
    fill(found, items, options, n_left_out=11)
    assert (told(found, items, options).n_new, told(found, items, options).basis) == (11, "trial")
    fill(found, items, options, n_left_out=10)
    few = told(found, items, options)
    assert (few.n_new, few.basis, few.seconds) == (10, "few", None)
    fill(found, items, options, n_left_out=0)
    done = told(found, items, options)
    assert (done.n_pictures, done.n_new, done.basis, done.seconds) == (N_PICTURES, 0, "known", None)


def test_where_nothing_can_be_tried_the_catalog_answers(
    found: Any, items: Path, options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "trial", lambda *_: (0, 0.0))
    monkeypatch.setattr(forecast, "gflops_per_s", lambda *_: 100.0)
    # Nobody knows what a folder of the user's costs.
    assert told(found, items, options).basis == "unknown"
    monkeypatch.setattr(forecast, "parse_spec", lambda spec: entries()["dinov2-base"])
    one = told(found, items, options)
    assert (one.basis, one.seconds) == ("estimate", pytest.approx(N_PICTURES * 46.3 / 100))


def test_an_offer_sums_up_what_its_backbones_take(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(forecast, "gflops_per_s", lambda *_: 50.0)
    one = forecast.offer(preset("good"), 360, "fp32", options)
    # By the catalog: 46.3 and 35.4 GFLOPs a picture, 86,580,480 and 203,155,970 numbers of four bytes.
    assert one.seconds == pytest.approx(360 * (46.3 + 35.4) / 50)
    assert one.fetch_bytes == 4 * (86_580_480 + 203_155_970)
    # What is here is not fetched.
    assert forecast.offer(preset("at-hand"), 360, "fp32", options).fetch_bytes == 0


def test_the_process_takes_memory_where_it_computes(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside model and batch; on a GPU the process lies in other memory than these."""
    entry = entries()["timm-resnet50"].model_copy(update={"n_params": 1_000_000, "activations_mb": 10.0})
    of_four = options.model_copy(update={"batch_size": 4})
    assert forecast.memory_bytes(entry, "fp32", of_four) == 44_000_000 + 1_200_000_000
    monkeypatch.setattr(forecast, "pick_device", lambda _: "cuda:0")
    assert forecast.memory_bytes(entry, "fp32", of_four) == 44_000_000
