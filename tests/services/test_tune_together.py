"""`deponij tune --processes`: two real processes train together on the CPU (gloo), and come to what one comes to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cli_world
import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from deponij.pipeline.training.mechanics import mechanics


@dataclass(frozen=True)
class World:
    """Pictures of three colours as items, a split, and a tiny DINOv2."""

    root: Path

    def tune(self, out: str, *more: object, backbone: str = "base", status: int = 0) -> cli_world.Answer:
        where = ["--items", self.root / "items", "--split", self.root / "split.parquet", "--labels", "label"]
        # A batch of seven is cut into four and three, the last one of an epoch otherwise.
        short = ["--epochs", "2", "--batch", "7", "--lr", "0.01", "--depot", self.root / "depot"]
        return cli_world.call(
            "tune", *where, "--backbone", self.root / backbone, "--out", self.root / out, *short, *more
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("together"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(made.root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        tiny_models.dinov2(made.root / "base")
        cli_world.class_folders(made.root / "pictures")
        cli_world.done("items", "--folder", made.root / "pictures", "--out", made.root / "items", status=3)
        by = ["--items", made.root / "items", "--strategy", "random", "--fractions", "0.4", "0.2", "0.4"]
        cli_world.done("split", *by, "--out", made.root / "split.parquet")
        yield made


def test_two_processes_come_to_what_one_comes_to(world: World) -> None:
    assert world.tune("one").status == 0
    together = world.tune(
        "two", "--processes", "2", "--track", "tensorboard", "--log-dir", world.root / "logs"
    )
    assert together.status == 0, together.err
    one, two = (
        load_file(world.root / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    moved = max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=0.02 * moved)
    records = [json.loads((world.root / name / "tuned.json").read_text())["tuned"] for name in ("one", "two")]
    for first, second in zip(*(record["history"] for record in records), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
    assert not (world.root / "two.unfinished").exists()
    writers = {one.name.split(".")[-2] for one in (world.root / "logs").rglob("events.out.tfevents.*")}
    assert len(writers) == 1, "of one process"


def test_a_process_that_fails_is_told(world: World) -> None:
    wild = [f"training.{one}" for one in ("lr=100", "optimizer=sgd", "clip_norm=null", "epochs=20")]
    answer = world.tune("lost", "--processes", "2", *(part for one in wild for part in ("--set", one)))
    assert answer.status == 1
    assert "by 2 processes ended early" in answer.err
    assert not (world.root / "lost").exists()


def test_captions_are_not_cut(world: World) -> None:
    tiny_models.siglip(world.root / "siglip")
    asked = ["--set", "learns=captions", "--processes", "2", "--labels", "label"]
    answer = world.tune("captions", *asked, backbone="siglip")
    assert answer.status == 2
    assert "leave --processes away" in answer.err


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("n_ranks", [1, 2, 3])
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_parts_of_a_batch_weigh_what_they_are(n: int, n_ranks: int, pieces: int) -> None:
    """The mean over processes of their weighted sums is the batch's mean, by hand; also where some get nothing."""
    batch = (torch.arange(n, dtype=torch.float64) ** 2, [torch.arange(n)])
    with mechanics("cpu", "fp32", 1) as made:
        told = []
        for rank in range(n_ranks):
            made.rank, made.n_ranks = rank, n_ranks
            parts = list(made.parts(batch, pieces, lambda one: len(one[0])))
            assert len(parts) == min(pieces, -(-n // n_ranks))
            for (values, (numbers,)), weight in parts:
                assert torch.equal(values, batch[0][numbers])
                told.append(float(values.mean()) * weight)
    assert sum(told) / n_ranks == pytest.approx(float(batch[0].mean()))


def test_pictures_of_several_maps_are_parted_by_pictures() -> None:
    """Eight pictures with maps of four levels and their label maps, as decoders learn from: each picture once."""
    levels = [torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, side, side) for side in (8, 4, 2, 1)]
    with mechanics("cpu", "fp32", 1) as made:
        learned = []
        for rank in range(2):
            made.rank, made.n_ranks = rank, 2
            (((maps, truth), weight),) = made.parts((levels, torch.arange(8)), 1, lambda one: len(one[1]))
            assert (
                len(maps) == 4
                and weight == 1
                and all(torch.equal(one[:, 0, 0, 0], truth.float()) for one in maps)
            )
            learned += truth.tolist()
    assert sorted(learned) == list(range(8))
