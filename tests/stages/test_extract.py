"""Items in, depot rows and a view out: what is computed, what is not, and what the view says."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deponij.pipeline.backbones.kinds import Kind
from deponij.project.extraction import dense_room
from deponij.project.extraction.extracting import found_backbone
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.stages import extract as stage
from deponij.stages import items as items_stage
from deponij.stages.extract import ExtractParams, ExtractResult
from deponij.store.depot import FeatureStore
from deponij.store.errors import BackboneError, StoreError, UsageError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import DECODERS, key_of_bytes
from deponij.store.view import View

DAMAGED = b"\x89PNG\r\n\x1a\n and no more"
Row = tuple[str, bytes | None]


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return fake_backbone.make(tmp_path / "model")


def noise(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (18, 20, 3), dtype=np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()


def rows(numbers: Sequence[int]) -> list[Row]:
    return [(f"{number}.png", noise(number)) for number in numbers]


def write(path: Path, contents: Sequence[Row]) -> Path:
    with ItemWriter(path, pa.schema([])) as writer:
        for item_id, content in contents:
            core: dict[str, Any] = {"image_id": item_id, "width_px": 20, "height_px": 18}
            core |= {"failure": "cut off"} if content is None else {"key": key_of_bytes(content)}
            writer.add(item_id=item_id, content=content, metadata={}, **core)
    return path


def run(
    tmp_path: Path, model: Path, items: Path, params: ExtractParams | None = None, **where: Path
) -> ExtractResult:
    options = RunOptions(
        depot=str(where.get("depot", tmp_path / "depot")), batch_size=4, workers=2, threads=1
    )
    out = where.get("out", tmp_path / "view.h5")
    return stage.run(params or ExtractParams(), items=items, backbone=str(model), out=out, options=options)


def test_view_has_the_items_in_their_order_and_the_failures(tmp_path: Path, model: Path) -> None:
    twin = ("twin.png", noise(3))
    contents = [*rows(range(6)), ("gone.png", None), twin, ("bad.png", DAMAGED), *rows([6])]
    result = run(tmp_path, model, write(tmp_path / "items", contents))
    assert (result.n_items, result.n_distinct, result.n_known) == (10, 8, 0)
    assert (result.n_computed, result.n_failed) == (7, 2)
    view = View(tmp_path / "view.h5")
    sound = [item_id for item_id, content in contents if content not in (None, DAMAGED)]
    assert view.ids.tolist() == sound
    assert view.keys.tolist() == [key_of_bytes(dict(contents)[item_id] or b"") for item_id in sound]
    assert [item_id for item_id, _ in view.failures] == ["gone.png", "bad.png"]
    assert dict(view.failures)["gone.png"] == "cut off"
    assert "not a picture" in dict(view.failures)["bad.png"]
    np.testing.assert_array_equal(view.read(["3.png"]), view.read(["twin.png"]))
    assert view.fingerprint == result.fingerprint
    store = FeatureStore(tmp_path / "depot")
    np.testing.assert_array_equal(store.read(view.keys.tolist(), view.identity)["embedding"], view.embedding)


def test_rows_of_formats_that_are_decoded_otherwise_today_are_unknown_and_no_others(
    tmp_path: Path, model: Path
) -> None:
    """The items and the depot of an earlier version, whose keys name no decoder."""
    endings = ("jpg", "webp", "bmp", "png", "gif", "tif")
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    for number, ending in enumerate(endings):
        picture = Image.open(io.BytesIO(noise(number)))
        picture.save(tmp_path / "pictures" / "cat" / f"{number}.{ending}")

    def extracted(name: str, *, anew: bool = True) -> ExtractResult:
        if anew:
            folder = {"folder": tmp_path / "pictures"}
            items_stage.run("folder", folder, out=tmp_path / name, run_options=RunOptions(workers=1))
        return run(tmp_path, model, tmp_path / name)

    with pytest.MonkeyPatch.context() as earlier:
        for picture_format in list(DECODERS):
            earlier.delitem(DECODERS, picture_format)
        assert (extracted("old").n_known, extracted("old").n_known) == (0, len(endings))
        plain = [key_of_bytes(path.read_bytes()) for path in sorted((tmp_path / "pictures/cat").iterdir())]
        assert Items(tmp_path / "old").keys == plain
    with pytest.raises(StoreError, match="decodes GIF, PNG, TIFF pictures otherwise; make them again"):
        extracted("old", anew=False)
    new = extracted("new")
    assert (new.n_known, new.n_computed) == (3, 3)
    same = [a == b for a, b in zip(Items(tmp_path / "new").keys, plain, strict=True)]
    assert dict(zip(endings, same, strict=True)) == {e: e in ("jpg", "webp", "bmp") for e in endings}


def test_what_is_known_is_not_computed_and_needs_no_model(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write(tmp_path / "items", rows(range(9)))
    run(tmp_path, model, items)
    first = (tmp_path / "view.h5").read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr("deponij.project.extraction.feature_maker.load_backbone", never)
        again = run(tmp_path, model, items, out=tmp_path / "again.h5")
        assert (again.n_known, again.n_computed, again.pictures_per_s, again.bottleneck) == (9, 0, None, None)
        # A view is a pure function of items and parameters.
        assert (tmp_path / "again.h5").read_bytes() == first
        fewer = run(tmp_path, model, write(tmp_path / "fewer", rows([7, 2])))
        assert (fewer.n_known, fewer.n_computed) == (2, 0)
        assert View(tmp_path / "view.h5").ids.tolist() == ["7.png", "2.png"]
    more = run(tmp_path, model, write(tmp_path / "more", rows(range(12))))
    assert (more.n_known, more.n_computed) == (9, 3)
    assert "3 computed, 9 already in the depot" in stage.summary(more)


def test_an_unreadable_picture_is_tried_again_and_said_plainly(tmp_path: Path, model: Path) -> None:
    items = write(tmp_path / "items", [*rows(range(3)), ("bad.png", DAMAGED)])
    assert run(tmp_path, model, items).n_failed == 1
    again = run(tmp_path, model, items)
    assert (again.n_known, again.n_computed, again.n_failed) == (3, 0, 1)
    assert stage.summary(again).startswith("model: 4 items, 0 computed, 3 already in the depot, 1 failed")


def test_nothing_can_be_read(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model, write(tmp_path / "items", [("a", DAMAGED), ("b", None)]))
    assert (result.n_computed, result.n_failed) == (0, 2)
    view = View(tmp_path / "view.h5")
    assert len(view) == 0
    assert sorted(item_id for item_id, _ in view.failures) == ["a", "b"]
    assert stage.summary(result)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"stored": "float16"},
        {"decode": "full"},
        {"input_px": (24, 24)},
        {"kind": "tokens@2"},
        {"kind": "dense"},
    ],
    ids=str,
)
def test_every_parameter_is_part_of_the_identity(tmp_path: Path, model: Path, change: dict[str, Any]) -> None:
    items = write(tmp_path / "items", rows(range(5)))
    before = run(tmp_path, model, items)
    other = run(tmp_path, model, items, ExtractParams.model_validate(change))
    assert other.fingerprint != before.fingerprint
    assert (other.n_known, other.n_computed) == (0, 5)
    back = run(tmp_path, model, items)
    assert (back.fingerprint, back.n_computed) == (before.fingerprint, 0)


def test_other_weights_are_another_backbone(tmp_path: Path, model: Path) -> None:
    items = write(tmp_path / "items", rows(range(5)))
    before = run(tmp_path, model, items)
    one = View(tmp_path / "view.h5").embedding
    fake_backbone.make(model, seed=5)  # the same folder, other weights
    after = run(tmp_path, model, items)
    assert (after.n_known, after.n_computed) == (0, 5)
    assert after.fingerprint != before.fingerprint
    assert np.abs(View(tmp_path / "view.h5").embedding - one).max() > 0.1


def test_the_same_model_under_another_name_is_known(tmp_path: Path, model: Path) -> None:
    items = write(tmp_path / "items", rows(range(5)))
    run(tmp_path, model, items)
    os.rename(model, tmp_path / "renamed")  # noqa: PTH104
    assert run(tmp_path, tmp_path / "renamed", items).n_computed == 0


def test_tokens_lie_in_the_view_and_dense_maps_in_the_depot(tmp_path: Path, model: Path) -> None:
    items = write(tmp_path / "items", rows(range(5)))
    run(tmp_path, model, items, ExtractParams(kind="tokens@2"))
    assert View(tmp_path / "view.h5").embedding.shape == (5, 2, 2, 8)
    result = run(tmp_path, model, items, ExtractParams(kind="dense@2"), out=tmp_path / "dense.h5")
    view = View(tmp_path / "dense.h5", depot=FeatureStore(tmp_path / "depot"))
    assert result.kind == "dense@2"
    assert view.array_names == []
    assert view.identity.stored == "float16", "the default of dense maps"
    maps = view.maps(["4.png", "0.png"])
    assert {name: (values.shape, values.dtype) for name, values in maps.items()} == {
        "block0": ((2, 8, 2, 2), np.float16),
        "block1": ((2, 8, 2, 2), np.float16),
    }
    with pytest.raises(StoreError, match="maps"):
        _ = view.embedding


def test_patch_tokens_of_a_profile_have_a_view_of_their_own(tmp_path: Path, model: Path) -> None:
    at = Layout(tmp_path / "run")
    write(at.items, rows(range(5)))
    params: dict[str, Any] = {"backbones": {"fake": {"spec": str(model)}}, "patch_tokens": {"fake": {}}}
    options = RunOptions(depot=str(tmp_path / "depot"), workers=1, threads=1)
    stage.main(stage.Params.model_validate(params), at, options, "fake")
    assert View(at.view("fake")).kind == "embedding"
    view = View(at.maps("fake"), depot=FeatureStore(tmp_path / "depot"))
    assert view.kind == "dense@1" and view.ids.tolist() == View(at.view("fake")).ids.tolist()
    assert view.identity.stored == "float16" and len(view.maps(["0.png"])) == 1
    # What a profile names no more is gone; an empty folder is left for DVC.
    stage.main(stage.Params.model_validate(params | {"patch_tokens": {}}), at, options, "fake")
    assert list(at.patch_tokens("fake").iterdir()) == []


def test_values_that_do_not_fit_float16_are_failures_with_the_items_name(tmp_path: Path) -> None:
    loud = fake_backbone.make(tmp_path / "loud", scale=1e6)
    items = write(tmp_path / "items", rows(range(5)))
    result = run(tmp_path, loud, items, ExtractParams(stored="float16"))
    assert (result.n_computed, result.n_failed) == (0, 5)
    failures = View(tmp_path / "view.h5").failures
    assert [item_id for item_id, _ in failures] == [f"{i}.png" for i in range(5)]
    assert all("past float16" in reason and "store float32" in reason for _, reason in failures)
    assert run(tmp_path, loud, items).n_computed == 5


def test_one_picture_that_overflows_costs_no_other_also_in_a_run_that_goes_on(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, white = Kind.compute, io.BytesIO()
    Image.new("RGB", (20, 18), (255, 255, 255)).save(white, "PNG")

    def overflows(kind: Kind, backbone: Any, batch: Any) -> Any:
        arrays = real(kind, backbone, batch)
        arrays["embedding"][batch.amin(dim=(1, 2, 3)) > 1.5] = float("inf")
        return arrays

    quiet = run(
        tmp_path, model, write(tmp_path / "quiet", rows(range(14))), depot=tmp_path / "depot_of_quiet"
    )
    expected = View(tmp_path / "view.h5")
    monkeypatch.setattr(Kind, "compute", overflows)
    contents = [*rows(range(3)), ("white.png", white.getvalue()), *rows(range(3, 14))]
    # Nine items are two batches of four; then a run goes on with the others, the white one among them.
    assert run(tmp_path, model, write(tmp_path / "first", contents[:9])).n_computed == 8
    result = run(tmp_path, model, write(tmp_path / "all", contents))
    assert (result.n_known, result.n_computed, result.n_failed) == (8, 6, 1)
    view = View(tmp_path / "view.h5")
    assert [item_id for item_id, _ in view.failures] == ["white.png"]
    assert "hold infinity when computed in fp32" in view.failures[0][1]
    assert view.embedding.tobytes() == expected.embedding.tobytes()
    assert quiet.fingerprint == result.fingerprint


def test_what_was_computed_before_an_error_is_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write(tmp_path / "items", rows(range(14)))
    whole = run(tmp_path, model, items, depot=tmp_path / "undisturbed", out=tmp_path / "undisturbed.h5")
    real, n_calls = Kind.compute, 0

    def breaks(kind: Kind, backbone: Any, batch: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise BackboneError("the GPU fell off")
        return real(kind, backbone, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Kind, "compute", breaks)
        with pytest.raises(BackboneError, match="fell off"):
            run(tmp_path, model, items)
    rest = run(tmp_path, model, items)
    assert 4 <= rest.n_known <= 8
    assert rest.n_known % 4 == 0
    assert rest.n_computed == whole.n_computed - rest.n_known
    assert (tmp_path / "view.h5").read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()


def test_provenance_is_kept_with_the_rows(tmp_path: Path, model: Path) -> None:
    run(tmp_path, model, write(tmp_path / "items", rows(range(3))))
    (sidecar,) = FeatureStore(tmp_path / "depot").sidecars
    facts = sidecar.provenance
    assert facts["device"] == "cpu"
    assert facts["batch_size"] == 4
    assert {"torch", "numpy", "pillow"} <= set(facts["versions"])
    assert facts["source"] == str(tmp_path / "items")
    assert facts["date"].endswith("+00:00")


def test_a_view_of_one_identity_is_told_from_another(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model, write(tmp_path / "items", rows(range(3))))
    view, store = View(tmp_path / "view.h5"), FeatureStore(tmp_path / "depot")
    other = replace(view.identity, precision="bf16")
    with pytest.raises(StoreError, match=rf"{result.fingerprint} has them, but differs in precision"):
        store.read(view.keys.tolist(), other)


def test_requests_that_cannot_be_met(tmp_path: Path, model: Path) -> None:
    items = write(tmp_path / "items", rows(range(3)))
    with pytest.raises(UsageError, match="unknown kind"):
        run(tmp_path, model, items, ExtractParams(kind="embeddings"))
    with pytest.raises(BackboneError, match="the last 9 blocks; it has 3"):
        run(tmp_path, model, items, ExtractParams(kind="tokens@9"))
    with pytest.raises(StoreError, match="there are no items at"):
        run(tmp_path, model, tmp_path / "absent")
    with pytest.raises(StoreError, match="no depot"):
        run(tmp_path, model, items, depot=items)


def test_maps_need_room_and_say_so(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noise of 16 x 16 px has 2 x 2 cells of 8 channels in float16, and a checksum of 4 bytes: 68 bytes a map."""
    items = write(tmp_path / "items", rows(range(3)))
    dense = ExtractParams(kind="dense@2+flip")
    with monkeypatch.context() as patch:
        patch.setattr(dense_room, "free_bytes", lambda folder: 1_000)
        with pytest.raises(
            StoreError, match=r"1 kB are free at .*: make room there, name a depot on another disk"
        ):
            run(tmp_path, model, items, dense)
        assert run(tmp_path, model, items).n_computed == 3
    assert "model, dense@2+flip: 3 of 3 rows are new; 0 kB a picture (block0 8x2x2, block1 8x2x2)" in (
        capsys.readouterr().err
    )
    assert run(tmp_path, model, items, dense).n_computed == 3
    table = Items(items)
    found = found_backbone(dense, str(model))
    maker = FeatureMaker(found, RunOptions(depot=str(tmp_path / "other"), device="cpu"))
    room = dense_room.room_for([maker], table, FeatureStore(tmp_path / "other", create=True))
    assert (room.row_bytes, room.new_bytes, room.seconds) == (2 * 68, 3 * 2 * 68, None)


def test_pictures_that_items_only_name_are_read_where_they_lie(tmp_path: Path, model: Path) -> None:
    """The same features as of copies; one whose file has changed or gone is a failure, and the others are made."""
    for item_id, content in rows(range(6)):
        (tmp_path / "pictures" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / "x" / item_id).write_bytes(content or b"")
    source, options = {"folder": tmp_path / "pictures"}, RunOptions(workers=2)
    for name, how in (("held", "always"), ("named", "never")):
        items_stage.run("folder", source, out=tmp_path / name, run_options=options, copy_pictures=how)  # type: ignore[arg-type]
    run(tmp_path, model, tmp_path / "held", out=tmp_path / "held.h5")
    run(tmp_path, model, tmp_path / "named", out=tmp_path / "named.h5", depot=tmp_path / "other")
    held, named = View(tmp_path / "held.h5"), View(tmp_path / "named.h5")
    assert named.keys.tolist() == held.keys.tolist()
    assert np.array_equal(named.embedding, held.embedding)
    (tmp_path / "pictures" / "x" / "1.png").write_bytes(noise(77))
    (tmp_path / "pictures" / "x" / "4.png").unlink()
    result = run(tmp_path, model, tmp_path / "named", out=tmp_path / "late.h5", depot=tmp_path / "third")
    late = View(tmp_path / "late.h5")
    assert (result.n_failed, len(late)) == (2, 4)
    reasons = dict(late.failures)
    assert "has changed since the items were made" in reasons["x/1.png"]
    assert "is not there" in reasons["x/4.png"]
