"""From encoded pictures to rows, against a plain loop: order, failures, batches, memory, kinds."""

import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from deponij.pipeline.backbones import Backbone, extraction, load
from deponij.pipeline.backbones.extraction import AHEAD, Picture, Progress, Rows, extract
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import Route, decode
from deponij.store.errors import BackboneError, PictureError, StoreError

EMBEDDING = Kind.parse("embedding")
# As Python starts with; a test that left another one behind would hide it from the next.
SWITCH_INTERVAL_S = sys.getswitchinterval()
DAMAGED = b"\x89PNG\r\n\x1a\n and no more"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backbone]:
    torch.set_num_threads(1)
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("module_cache")))
        yield load(str(fake_backbone.make(tmp_path_factory.mktemp("fake"))))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def noise(number: int, width: int = 20, height: int = 18) -> bytes:
    rng = np.random.default_rng(number)
    return encoded(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))


def pictures(n: int, damaged: Iterable[int] = ()) -> list[Picture]:
    bad = set(damaged)
    return [Picture(f"k{i}", DAMAGED if i in bad else noise(i)) for i in range(n)]


def run(
    things: Iterable[Picture],
    model: Backbone,
    *,
    batch: int = 4,
    workers: int = 2,
    kind: Kind = EMBEDDING,
    stored: str = "float32",
    route: Route = Route.FULL,
    load: Callable[[], Backbone] | None = None,
) -> tuple[list[Rows], Progress]:
    progress = Progress(workers, batch)
    transform = model.description.transform
    rows = extract(
        things,
        load or (lambda: model),
        transform=transform,
        kind=kind,
        route=route,
        stored=stored,
        progress=progress,
    )
    return list(rows), progress


def plain_loop(things: Iterable[Picture], model: Backbone, batch: int) -> dict[str, np.ndarray]:
    """The same by the shortest way: decode, transform, stack, run."""
    pixels = {}
    for picture in things:
        try:
            image = decode(picture.content, keep_alpha=model.description.transform.keeps_alpha)
        except PictureError:
            continue
        pixels[picture.key] = model.description.transform.apply(image)
    found: dict[str, np.ndarray] = {}
    keys = list(pixels)
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        values = model.embed_images(torch.from_numpy(np.stack([pixels[key] for key in part]))).numpy()
        found |= dict(zip(part, values, strict=True))
    return found


def joined(rows: Iterable[Rows], name: str = "embedding") -> dict[str, np.ndarray]:
    return {key: row for batch in rows for key, row in zip(batch.keys, batch.arrays[name], strict=True)}


@pytest.mark.parametrize("workers", [1, 3])
def test_equals_a_plain_loop_to_the_bit(model: Backbone, workers: int) -> None:
    things = pictures(9, damaged=[2, 3, 7])
    things += [Picture(name, encoded(image)) for name, image in tiny_models.pictures().items()]
    things.append(Picture("jpeg", encoded(tiny_models.pictures()["odd"], "JPEG")))
    rows, progress = run(things, model, workers=workers)
    expected = plain_loop(things, model, 4)
    assert list(joined(rows)) == list(expected) == [t.key for t in things if t.content != DAMAGED]
    for key, row in joined(rows).items():
        np.testing.assert_array_equal(row, expected[key], err_msg=key)
    assert progress.n_rows == len(expected) == 16


def test_failures_are_recorded_and_leave_no_hole_in_a_batch(model: Backbone) -> None:
    rows, progress = run(pictures(11, damaged=[0, 4, 5, 10]), model, batch=3)
    assert [len(batch.keys) for batch in rows] == [3, 3, 1]
    assert [key for batch in rows for key in batch.keys] == ["k1", "k2", "k3", "k6", "k7", "k8", "k9"]
    assert [key for key, _ in progress.failures] == ["k0", "k4", "k5", "k10"]
    assert all("not a picture" in reason for _, reason in progress.failures)


def test_a_run_that_goes_on_meets_the_same_batches(model: Backbone) -> None:
    things = pictures(14, damaged=[1, 6])
    whole = joined(run(things, model)[0])
    first = joined(run(things, model)[0][:2])
    rest = joined(run([t for t in things if t.key not in first], model)[0])
    assert {k: v.tobytes() for k, v in whole.items()} == {k: v.tobytes() for k, v in (first | rest).items()}
    # The model tells batches apart, so that the line above means something.
    other = joined(run(things, model, batch=3)[0])
    assert any((other[key] != whole[key]).any() for key in whole)


def test_nothing_to_see_loads_no_model(model: Backbone) -> None:
    def never() -> Backbone:
        raise AssertionError("the model was loaded")

    assert run([], model, load=never)[0] == []
    rows, progress = run(pictures(5, damaged=range(5)), model, load=never)
    assert rows == []
    assert [key for key, _ in progress.failures] == [f"k{i}" for i in range(5)]
    assert progress.n_rows == 0


def test_decoding_runs_ahead_in_other_threads_and_within_bounds(
    model: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded_by, n_read, at_forward = set(), 0, []
    real_decode, real_compute = extraction.decode, Kind.compute

    def watched_decode(*args: Any, **kwargs: Any) -> Image.Image:
        decoded_by.add(threading.current_thread())
        return real_decode(*args, **kwargs)

    def source() -> Iterator[Picture]:
        nonlocal n_read
        for picture in pictures(40):
            n_read += 1
            yield picture

    def compute(kind: Kind, model: Backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        at_forward.append((n_read, threading.current_thread()))
        return real_compute(kind, model, batch)

    monkeypatch.setattr(extraction, "decode", watched_decode)
    monkeypatch.setattr(Kind, "compute", compute)
    run(source(), model, batch=4, workers=2)
    assert threading.main_thread() not in decoded_by
    assert {thread for _, thread in at_forward} == {threading.main_thread()}
    ahead = [n - 4 * (i + 1) for i, (n, _) in enumerate(at_forward)]
    assert min(ahead[:7]) >= (AHEAD - 1) * 4, "batches must be under way while the model works"
    assert max(ahead) <= AHEAD * 4, "a data set larger than memory must not be read at once"


class Narrow(fake_backbone.Fake):
    """Runs out of CUDA memory above `room` pictures."""

    room = 3
    n_calls = 0

    def _embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        if len(batch) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.model["head"](self.model["patches"](batch).tanh().mean(dim=(2, 3)))


def test_out_of_memory_halves_the_batch_and_goes_on(model: Backbone) -> None:
    narrow = Narrow(model.description, model.model)
    rows, progress = run(pictures(23, damaged=[3]), narrow, batch=11)
    assert [key for batch in rows for key in batch.keys] == [f"k{i}" for i in range(23) if i != 3]
    assert max(len(batch.keys) for batch in rows) <= Narrow.room
    assert progress.batch_size <= Narrow.room
    # 11 and its half do not fit, once for each batch that was already formed; then all calls succeed.
    assert narrow.n_calls <= len(rows) + 4
    narrow.room = 100
    expected = joined(run(pictures(23, damaged=[3]), narrow, batch=11)[0])
    for key, row in joined(rows).items():
        # Another size of batch may round otherwise in the last bit.
        np.testing.assert_allclose(row, expected[key], atol=1e-6, err_msg=key)


def test_one_picture_that_does_not_fit_is_an_error_with_a_way_out(model: Backbone) -> None:
    narrow = Narrow(model.description, model.model)
    narrow.room = 0
    with pytest.raises(BackboneError, match="--device cpu"):
        run(pictures(5), narrow, batch=4)


def test_kinds_and_stored_dtypes(model: Backbone) -> None:
    things = pictures(5)
    batch = torch.from_numpy(
        np.stack([model.description.transform.apply(decode(picture.content)) for picture in things])
    )
    tokens, _ = run(things, model, batch=5, kind=Kind.parse("tokens@2"))
    np.testing.assert_array_equal(tokens[0].arrays["tokens"], model.tokens(batch, blocks=2).numpy())
    assert tokens[0].arrays["tokens"].shape == (5, 2, 2, 8)
    dense, _ = run(things, model, batch=5, kind=Kind.parse("dense@2"), stored="float16")
    assert {name: (a.shape, a.dtype) for name, a in dense[0].arrays.items()} == {
        "block0": ((5, 8, 2, 2), np.float16),
        "block1": ((5, 8, 2, 2), np.float16),
    }
    expected = model.dense(batch, blocks=2)[1].values.half().numpy()
    np.testing.assert_array_equal(dense[0].arrays["block1"], expected)


WHITE = encoded(Image.new("RGB", (20, 18), (255, 255, 255)))


def loud(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """From now on a white picture's features are `factor` times as large."""
    real = Kind.compute

    def compute(kind: Kind, model: Backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        arrays = real(kind, model, batch)
        white = batch.amin(dim=(1, 2, 3)) > 1.5
        for values in arrays.values():
            values[white] *= factor
        return arrays

    monkeypatch.setattr(Kind, "compute", compute)


@pytest.mark.parametrize("kind", ["embedding", "tokens@2", "dense@2"])
@pytest.mark.parametrize(
    ("factor", "stored", "reason"),
    [
        (1e6, "float16", r"reach \d.*, past float16, which ends at 65,504; store float32"),
        (np.inf, "float32", "hold infinity when computed in fp32; look at the picture"),
        (np.nan, "float16", "hold NaN when computed in fp32"),
    ],
)
def test_pictures_without_finite_features_cost_no_other_its_row_or_its_bits(
    model: Backbone, monkeypatch: pytest.MonkeyPatch, kind: str, factor: float, stored: str, reason: str
) -> None:
    """The rows, and the batches, are those of a run in which such pictures never were."""
    things = pictures(19, damaged=[5])
    quiet, quiet_progress = run(things, model, kind=Kind.parse(kind), stored=stored)
    bad = {2, 3, 9, 16, 18}
    mixed = list(things)
    for place in sorted(bad):
        mixed.insert(place, Picture(f"white{place}", WHITE))
    loud(monkeypatch, factor)
    rows, progress = run(mixed, model, kind=Kind.parse(kind), stored=stored)
    assert [one.keys for one in rows] == [one.keys for one in quiet]
    for ours, theirs in zip(rows, quiet, strict=True):
        assert {n: v.tobytes() for n, v in ours.arrays.items()} == {
            n: v.tobytes() for n, v in theirs.arrays.items()
        }
    assert progress.n_rows == quiet_progress.n_rows == 18
    reasons = dict(progress.failures)
    assert set(reasons) == {"k5", *(f"white{place}" for place in bad)}
    for place in bad:
        assert re.search(reason, reasons[f"white{place}"]), reasons[f"white{place}"]


def test_no_picture_has_finite_features(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    loud(monkeypatch, np.nan)
    rows, progress = run([Picture(f"w{i}", WHITE) for i in range(9)], model)
    assert (rows, progress.n_rows, len(progress.failures)) == ([], 0, 9)


def test_features_past_the_precision_of_computing_say_which_to_take(model: Backbone, tmp_path: Path) -> None:
    """Really computed in fp16: embeddings past 65,504 are infinite there."""
    folder = fake_backbone.make(tmp_path / "loud", scale=1e5)
    _, progress = run(pictures(3), load(str(folder), precision="fp16"))
    said = r"its features by loud \(embedding\) hold (infinity|NaN) when computed in fp16; compute in bf16 or fp32"
    assert len(progress.failures) == 3
    assert all(re.match(said, reason) for _, reason in progress.failures)
    rows, _ = run(pictures(3), load(str(folder), precision="bf16"))
    assert len(joined(rows)) == 3


def test_a_picture_that_does_not_fit_into_memory_costs_no_other(
    model: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Transform.pixels

    def pixels(transform: Transform, image: Image.Image) -> Any:
        if image.width == 20 and np.asarray(image).min() == 255:
            raise MemoryError
        return real(transform, image)

    monkeypatch.setattr(Transform, "pixels", pixels)
    things = [*pictures(5), Picture("huge", WHITE)]
    rows, progress = run(things, model)
    assert list(joined(rows)) == [f"k{i}" for i in range(5)]
    assert progress.failures == [("huge", "decoding and resizing it takes more memory than there is")]


def test_large_photographs_take_the_draft_route(model: Backbone) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8).repeat(5, axis=0).repeat(5, axis=1)
    picture = Picture("big", encoded(Image.fromarray(pixels), "JPEG"))
    transform = model.description.transform
    by_draft = decode(picture.content, route=Route.DRAFT, input_px=transform.input_px)
    assert by_draft.size == (200, 150), "the test is about a picture that is decoded smaller"
    found = {route: joined(run([picture], model, route=route)[0])["big"] for route in Route}
    expected = model.embed_images(torch.from_numpy(transform.apply(by_draft)[None])).numpy()[0]
    np.testing.assert_array_equal(found[Route.DRAFT], expected)
    assert (found[Route.FULL] != expected).any()


def test_times_are_kept_by_part(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Kind.compute

    def slow(kind: Kind, model: Backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(0.03)
        return real(kind, model, batch)

    monkeypatch.setattr(Kind, "compute", slow)
    _, progress = run(pictures(12, damaged=[5]), model)
    assert progress.n_rows == 11
    assert progress.busy_s["forward"] >= 3 * 0.03
    assert progress.busy_s["decode"] > 0
    assert progress.bottleneck == "forward"
    assert progress.rates()["forward"] == pytest.approx(12 / progress.busy_s["forward"])
    assert Progress(1, 1).bottleneck is None


@pytest.mark.parametrize("moment", ["source", "model", "consumer"])
def test_an_error_ends_the_threads_and_leaves_the_interpreter_as_it_was(
    model: Backbone, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    n_threads = threading.active_count()

    def source() -> Iterator[Picture]:
        for i, picture in enumerate(pictures(60)):
            if moment == "source" and i == 25:
                raise StoreError("a page of the items is damaged")
            yield picture

    def compute(*_: Any) -> dict[str, torch.Tensor]:
        raise RuntimeError("the model broke")

    if moment == "model":
        monkeypatch.setattr(Kind, "compute", compute)
    progress = Progress(2, 4)
    rows = extract(
        source(),
        lambda: model,
        transform=model.description.transform,
        kind=EMBEDDING,
        route=Route.FULL,
        stored="float32",
        progress=progress,
    )
    if moment == "consumer":
        next(rows)
        rows.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises((StoreError, RuntimeError), match="damaged|broke"):
            list(rows)
    assert sys.getswitchinterval() == SWITCH_INTERVAL_S
    assert threading.active_count() == n_threads
