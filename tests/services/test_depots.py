"""Housekeeping of depots and views as the command line has it; the store's own tests go deeper."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import pytest
from cli_world import N_PER_CLASS, World, done

from deponij.project.frame.settings import RunOptions
from deponij.services import depots
from deponij.stages import extract as extraction
from deponij.stages.extract import ExtractParams
from deponij.store.errors import StoreError, UsageError
from deponij.store.view import View

N_SOUND = 3 * N_PER_CLASS
N_TEXTS = 2 * 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def depot(world: World, tmp_path: Path) -> str:
    shutil.copytree(world.depot, tmp_path / "depot")
    return str(tmp_path / "depot")


def verify(depot: str, **changes: object) -> depots.Report:
    plain = {"repair": False, "items": None, "backbone": None, "n_rows": 8, "seed": 0}
    return depots.verify(depot, **plain | changes)  # type: ignore[arg-type]


def test_info_in_figures_and_in_words(depot: str) -> None:
    report = depots.info(depot)
    assert report["n_rows"] == 2 * N_SOUND + N_TEXTS
    assert sorted(one["n_rows"] for one in report["identities"]) == [N_TEXTS, N_SOUND, N_SOUND]
    text = depots.describe_info(report)
    assert f"{2 * N_SOUND + N_TEXTS} rows" in text
    assert "made_up:1" in text


def test_verify_extracts_again_and_reports_the_drift(world: World, depot: str) -> None:
    report = verify(depot, items=world.items, backbone=str(world.words))
    (line,) = report["drift"]
    assert (line["kind"], line["n_rows"]) == ("embedding", 8)
    assert report["sound"]
    assert "extracted again" in depots.describe_verify(report)


def extract(world: World, depot: str, out: Path, **params: Any) -> str:
    """More rows of the same backbone; gives their fingerprint."""
    options = RunOptions(depot=depot, workers=1, threads=1)
    made = extraction.run(
        ExtractParams(**params), items=world.items, backbone=str(world.words), out=out, options=options
    )
    return made.fingerprint


def test_verify_covers_rows_of_every_size_kind_and_precision(
    world: World, depot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {
        extract(world, depot, tmp_path / "a.h5", input_px=(24, 32)): [24, 32],
        extract(world, depot, tmp_path / "b.h5", input_px=(32, 32), kind="dense@2"): [32, 32],
        extract(world, depot, tmp_path / "c.h5", kind="tokens@2", precision="bf16"): [16, 16],
    }
    report = verify(depot, items=world.items, backbone=str(world.words), n_rows=4)
    found = {line["fingerprint"]: line["input_px"] for line in report["drift"]}
    assert sizes.items() <= found.items()
    assert len(found) == 4
    assert report["sound"] and report["unchecked"] == []
    assert "extracted again at 24x32 px" in depots.describe_verify(report)
    real = fake_backbone.Fake._embed_images

    def drifts(model: fake_backbone.Fake, batch: Any) -> Any:
        return real(model, batch) * (1.1 if batch.shape[2] == 24 else 1.0)

    monkeypatch.setattr(fake_backbone.Fake, "_embed_images", drifts)
    report = verify(depot, items=world.items, backbone=str(world.words), n_rows=4)
    assert not report["sound"], "rows at another size are held against what is computed today, too"


def test_verify_says_which_rows_it_cannot_extract_again(
    world: World, depot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, view = depots.FeatureStore(depot), View(world.view)
    changes: list[dict[str, str]] = [{"decode": "by an older Pillow"}, {"transform": "{}"}]
    for change in changes:
        old = replace(view.identity, **change)
        with store.writer(old, {}) as writer:
            writer.add(view.keys.tolist(), {"embedding": view.embedding})
    report = verify(depot, items=world.items, backbone=str(world.words))
    assert report["sound"] and len(report["drift"]) == 1
    reasons = sorted(one["reason"] for one in report["unchecked"])
    assert "transform: " in reasons[1] and "by an older Pillow" in reasons[0]
    assert {one["n_rows"] for one in report["unchecked"]} == {N_SOUND}
    assert depots.describe_verify(report).count("cannot be extracted again") == 2


def test_a_row_that_is_not_made_any_more_is_told(
    world: World, depot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake_backbone.Fake._embed_images
    monkeypatch.setattr(
        fake_backbone.Fake, "_embed_images", lambda self, batch: real(self, batch) * float("nan")
    )
    report = verify(depot, items=world.items, backbone=str(world.words), n_rows=4)
    assert not report["sound"]
    assert len(report["drift"][0]["failures"]) == 4
    assert "is not made any more: its features" in depots.describe_verify(report)


def test_rows_of_another_model_do_not_pass_for_this_one(
    world: World, depot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same description, other numbers: as when a library computes something else since."""
    real = fake_backbone.Fake._embed_images
    monkeypatch.setattr(fake_backbone.Fake, "_embed_images", lambda self, batch: real(self, batch) * 1.1)
    report = verify(depot, items=world.items, backbone=str(world.words))
    assert not report["sound"]
    assert report["drift"][0]["max_relative"] == pytest.approx(0.1, rel=0.1)


def test_verify_refuses_half_a_request_and_a_model_without_rows(
    world: World, depot: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="both --items and --backbone"):
        verify(depot, items=world.items)
    with pytest.raises(UsageError, match="has no rows of"):
        verify(depot, items=world.items, backbone=str(fake_backbone.make(tmp_path / "new", seed=8)))


def test_damage_is_found_set_aside_and_told(depot: str) -> None:
    shard = sorted(Path(depot).rglob("*.h5"))[0]
    shard.write_bytes(shard.read_bytes()[:-8] + b"damaged!")
    report = verify(depot)
    assert not report["sound"]
    assert len(report["damaged"]) == 1
    assert "--repair" in depots.describe_verify(report)
    repaired = verify(depot, repair=True)
    assert repaired["sound"]
    assert "set aside" in depots.describe_verify(repaired)
    assert verify(depot)["sound"]


def test_merge_brings_all_rows_and_twice_brings_none(world: World, tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    depots.merge(str(world.depot), target)
    assert depots.info(target)["n_rows"] == 2 * N_SOUND + N_TEXTS
    depots.merge(str(world.depot), target)
    assert depots.info(target)["n_rows"] == 2 * N_SOUND + N_TEXTS
    with pytest.raises(StoreError, match="there is no depot"):
        depots.merge(str(tmp_path / "absent"), target)


def test_gc_keeps_what_is_named(world: World, depot: str) -> None:
    with pytest.raises(UsageError, match="--keep-view"):
        depots.gc(depot, [], [], delete=True)
    depots.gc(depot, [world.view], [], delete=False)
    assert depots.info(depot)["n_rows"] == 2 * N_SOUND + N_TEXTS
    depots.gc(depot, [], [world.items], delete=True)
    assert depots.info(depot)["n_rows"] == 2 * N_SOUND, (
        "items keep the rows of all their pictures, texts are none"
    )
    depots.gc(depot, [world.mute_view], [], delete=True)
    (left,) = depots.info(depot)["identities"]
    assert (left["fingerprint"], left["n_rows"]) == (View(world.mute_view).fingerprint, N_SOUND)


def test_compact_and_migrate_lose_nothing(depot: str) -> None:
    depots.compact(depot)
    assert depots.info(depot)["n_rows"] == 2 * N_SOUND + N_TEXTS
    assert verify(depot)["sound"]
    assert depots.migrate(depot)["steps"] in ([], 0, ())
    assert "none was needed" in done("depot", "migrate", depot).out


def test_view_info_and_export(world: World, tmp_path: Path) -> None:
    report = depots.view_info(world.view)
    assert (report["n_rows"], report["n_distinct"]) == (N_SOUND, N_SOUND)
    assert report["failures"][0]["item_id"] == cli_world.TRUNCATED
    assert cli_world.TRUNCATED in depots.describe_view(report)
    assert depots.export(world.view, tmp_path / "v.npz", None) == f"{N_SOUND} rows -> {tmp_path / 'v.npz'}"
    with pytest.raises(StoreError, match="there is no view"):
        depots.view_info(tmp_path / "absent.h5")


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_for_people(n_bytes: int, text: str) -> None:
    assert depots._size(n_bytes) == text
