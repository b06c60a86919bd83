"""A decoder learned from stored maps: what is drawn, read and brought out, also after an interruption."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import street_world
import torch
from depot_world import CLIP, keys_of
from street_world import CLASSES, HEIGHT_PX, WIDTH_PX, Street, label_map_of, maps_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deponij.pipeline.decoders.losses import VOID
from deponij.pipeline.decoders.saved import load_decoder
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.project.segmentation import learn
from deponij.project.segmentation.drawing import Cut, Drawn, Frame
from deponij.project.segmentation.judging import resampled
from deponij.project.segmentation.learn import (
    Asked,
    Running,
    asked_of,
    learn_decoder,
    levels_of,
    task_of,
)
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.result_files import read_counts, read_label_maps, read_segmentation
from deponij.project.segmentation.task import answers
from deponij.project.segmentation.words import class_vectors
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.keys import key_of_bytes
from deponij.store.reading import Window
from deponij.store.scenes import SceneClass, SceneRow, Scenes, write_scenes
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_empty_view, write_view

FRAME = Frame((HEIGHT_PX, WIDTH_PX), 32)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return street_world.make(tmp_path_factory.mktemp("street"))


def params(**more: Any) -> DecodersParams:
    training = {"epochs": 6, "batch_size": 4, "lr": 0.03} | more.pop("training", {})
    values = {"methods": {"linear": {}}, "words": ["learned"], "training": training} | more
    return DecodersParams.model_validate(values)


def learned(
    street: Street, given: DecodersParams, out: Path | None = None, **running: Any
) -> SegmentationResult:
    (asked,) = asked_of(given, with_words=False)
    return learn_decoder(
        asked, given, street.open(), words=None, running=Running(n_threads=1, **running), out=out
    )


def test_an_epoch_is_drawn_the_same_way_twice_and_another_is_not() -> None:
    ids = [f"{number}" for number in range(10)]
    drawn = Drawn(4, (32, 64), True, seed=3)
    first = drawn.plan(ids, FRAME, 0)
    assert first == drawn.plan(ids, FRAME, 0)
    assert first != drawn.plan(ids, FRAME, 1)
    assert first != replace(drawn, seed=4).plan(ids, FRAME, 0)
    # Ten in fours: the rest of two is no more than half a batch.
    assert [len(batch) for batch in first] == [4, 4]
    assert [len(batch) for batch in drawn.plan(ids[:7], FRAME, 0)] == [4, 3]
    assert len({one.item_id for batch in first for one in batch}) == 8


def test_windows_lie_inside_and_mirroring_is_half() -> None:
    drawn = Drawn(4, (32, 64), True, seed=0)
    wanted = [one for epoch in range(50) for batch in drawn.plan(["a"] * 8, FRAME, epoch) for one in batch]
    windows = {one.window for one in wanted}
    # 2 x 3 cells of 32 px hold a window of 1 x 2 in two rows and two columns.
    assert windows == {Window(top, left, 1, 2) for top in (0, 1) for left in (0, 1)}
    assert 0.4 < np.mean([one.mirrored for one in wanted]) < 0.6


@pytest.mark.parametrize("window", [(48, 32), (0, 32), (128, 32)])
def test_windows_that_cells_do_not_tile_are_refused(street: Street, window: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of the coarsest stride, 32 px"):
        learned(street, params(window_px=window))


def test_targets_are_cut_and_mirrored_as_maps_are(street: Street) -> None:
    scenes, labels = Scenes(street.scenes), label_map_of(3)
    window = Window(1, 1, 1, 2)
    assert np.array_equal(FRAME.target(scenes, Cut("3.png")), labels)
    assert np.array_equal(FRAME.target(scenes, Cut("3.png", window)), labels[32:64, 32:96])
    mirrored = labels[:, ::-1]
    assert np.array_equal(FRAME.target(scenes, Cut("3.png", window, True)), mirrored[32:64, 32:96])
    half = replace(FRAME, input_px=(HEIGHT_PX // 2, WIDTH_PX // 2))
    assert half.target(scenes, Cut("3.png")).shape == (HEIGHT_PX // 2, WIDTH_PX // 2)


def test_batches_hold_the_maps_that_were_wanted(street: Street) -> None:
    source = street.open()
    window = Window(1, 0, 1, 2)
    plan = [[Cut("5.png", window, True), Cut("2.png", window)], [Cut("7.png", window, True)]]
    read = list(source.batches(plan))
    assert [one.item_id for batch, _ in read for one in batch] == ["2.png", "5.png", "7.png"]
    for batch, tensors in read:
        for row, one in enumerate(batch):
            number = int(one.item_id.removesuffix(".png"))
            for level, values in zip(source.levels, tensors, strict=True):
                whole = maps_of(number, mirrored=one.mirrored)[level.name]
                k = 32 // level.stride_px
                np.testing.assert_array_equal(values[row].numpy(), whole[:, k : 2 * k, : 2 * k])


@pytest.mark.parametrize("loss", ["cross_entropy", "boundary"])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_batches_count_by_what_is_said_in_them(street: Street, loss: str, power: float) -> None:
    """So that some of one step come to what they are together, however much of each is void."""
    given = params(loss=loss, class_weights=power)
    (asked,) = asked_of(given, with_words=False)
    source = street.open()
    model = asked.decoder.build(levels_of(source), len(CLASSES), None)
    task = task_of(asked, given, source, model.eval(), "")
    (some, truth), (others, other_truth) = list(task.batches(0))[:2]
    truth[1:, :40] = VOID
    whole = [torch.cat(one) for one in zip(some, others, strict=True)], torch.cat([truth, other_truth])
    parts = [(some, truth), (others, other_truth)]
    counts = [task.counts(one) for one in parts]
    assert counts[0] < 0.8 * counts[1]
    together = sum(task.loss(one).item() * its for one, its in zip(parts, counts, strict=True)) / sum(counts)
    assert together == pytest.approx(task.loss(whole).item(), rel=1e-5)


def test_it_learns_and_what_it_learned_gives_the_answers_that_were_kept(
    street: Street, tmp_path: Path
) -> None:
    result = learned(street, params(both_ways=True, training={"epochs": 25}), tmp_path / "out")
    test = result.parts["test"]
    # Cells of 8 px at the borders cannot be right everywhere; sky or road alone would have a third of that.
    assert test.miou > 0.8 > 2 * test.majority_miou
    assert set(result.parts) == {"train", "val", "test"} and test.n_pictures == 4
    assert read_segmentation(tmp_path / "out") == result
    _, counts = read_counts(tmp_path / "out")
    # Void is a row of four pixels below.
    assert counts.confusions[0].sum() == (HEIGHT_PX - 4) * WIDTH_PX
    card, module = load_decoder(tmp_path / "out")
    assert card.classes == tuple(one.name for one in CLASSES) and card.input_px == (HEIGHT_PX, WIDTH_PX)
    source = street.open()
    kept = read_label_maps(tmp_path / "out")
    found = {one: answer for one, _, answer in answers(module, source, source.ids(["test"]), both_ways=True)}
    assert list(found) == list(kept.ids) == ["16.png", "17.png", "18.png", "19.png"]
    assert all(np.array_equal(answer, kept.label_map(one)) for one, answer in found.items())


def test_learning_on_windows_and_without_mirrors(street: Street) -> None:
    result = learned(street, params(window_px=(32, 64), training={"epochs": 12}, loss="boundary"))
    assert result.parts["test"].miou > 0.7 and "windows of 32x64 px cut" in result.protocol
    (asked,) = asked_of(params(), with_words=False)
    plain = learn_decoder(
        asked,
        params(both_ways=True),
        street.open(mirrored=False),
        words=None,
        running=Running(n_threads=1),
        out=None,
    )
    assert "mirrored" not in plain.protocol and "both ways" not in plain.protocol


def test_with_val_learned_from_nothing_is_chosen_on_it(street: Street) -> None:
    result = learned(street, params(learn_from=("train", "val"), judged=("test",)))
    assert "the last weights kept" in result.protocol and set(result.parts) == {"test"}
    assert result.val_miou is None


def without_val(patch: pytest.MonkeyPatch) -> None:
    real = Scenes.ids
    patch.setattr(Scenes, "ids", lambda self, part: [] if part == "val" else real(self, part))


def test_the_protocol_says_what_was_kept_and_how_pixels_count(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"epochs": 2}
    told = learned(street, params(training=short)).protocol
    assert "2 epochs, the best on val kept" in told and "count more" not in told
    told = learned(street, params(training=short, loss="boundary", class_weights=0.5)).protocol
    assert "pixels near the borders of classes count more; rare classes count more" in told
    without_val(monkeypatch)
    told = learned(street, params(training=short)).protocol
    assert "2 epochs, the last weights kept" in told and "val" not in told


def test_an_interrupted_training_leaves_the_same_bytes(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = params(methods={"fpn": {"arguments": {"width": 8, "dropout": 0.2}}}, training={"epochs": 4})
    learned(street, given, tmp_path / "whole", keeps_time=False)
    real = learn.train

    def pulled(*args: Any, **named: Any) -> Any:
        told = named["on_step"]

        def stop(step: Any) -> None:
            told(step)
            if step.done == 8:
                raise KeyboardInterrupt

        return real(*args, **(named | {"on_step": stop, "checkpoint_s": 0}))

    monkeypatch.setattr(learn, "train", pulled)
    with pytest.raises(KeyboardInterrupt):
        learned(street, given, tmp_path / "again", unfinished=tmp_path / "unfinished", keeps_time=False)
    assert (tmp_path / "unfinished").is_dir() and not (tmp_path / "again").exists()
    monkeypatch.setattr(learn, "train", real)
    shutil.copytree(tmp_path / "unfinished", tmp_path / "others")
    notes: list[str] = []
    monkeypatch.setattr(learn, "note", notes.append)
    learned(street, given.model_copy(update={"class_weights": 0.5}), unfinished=tmp_path / "others")
    assert len(notes) == 1 and "of another training: class_weights 0.0 there, 0.5 here" in notes[0]
    assert not (tmp_path / "others").exists()
    learned(street, given, tmp_path / "again", unfinished=tmp_path / "unfinished", keeps_time=False)
    assert not (tmp_path / "unfinished").exists()
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_what_is_asked_for_is_checked_first() -> None:
    both = params(
        methods={"linear": {}, "narrow": {"decoder": "fpn"}, "bilinear": {}}, words=["names", "photo"]
    )
    asked = [(one.name, one.kind, one.words) for one in asked_of(both, with_words=True)]
    assert asked == [
        ("linear", "linear", "learned"),
        ("narrow", "fpn", "names"),
        ("narrow", "fpn", "photo"),
        ("bilinear", "bilinear", "names"),
        ("bilinear", "bilinear", "photo"),
    ]
    # Without words nothing is left of what cannot do without.
    assert [one.name for one in asked_of(both, with_words=False)] == ["linear", "narrow"]
    with pytest.raises(UsageError, match="unknown decoder 'fnp'"):
        asked_of(params(methods={"fnp": {}}), with_words=True)
    with pytest.raises(UsageError, match="width"):
        asked_of(params(methods={"fpn": {"arguments": {"width": "wide"}}}), with_words=True)
    with pytest.raises(UsageError, match="epochs"):
        asked_of(params(methods={"fpn": {"training": {"epochs": 0}}}), with_words=True)


@pytest.mark.parametrize(
    "twice",
    [
        {"learn_from": ["train", "train"]},
        {"judged": ["test", "val", "test"]},
        {"words": ["names", "names"]},
        {"methods": {"fpn": {"words": ["names", "names"]}}},
    ],
)
def test_what_is_named_twice_is_refused(twice: dict[str, Any]) -> None:
    """A picture would count twice, or a training run twice for one folder."""
    with pytest.raises(ValueError, match="(train|test|names) must be named once only"):
        params(**twice)


def test_class_vectors_are_means_of_directions(street: Street, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 4)).astype(np.float32) * 7
    groups, templates = ["sky", "sky", "road", "car", "sky"], ["names"] * 4 + ["photo"]
    view = street.open().view

    def write(weights: str) -> Path:
        identity = replace(
            CLIP, kind="text", weights=weights, stored="float32", transform="tokenizer:x", decode=""
        )
        path = tmp_path / f"{weights[:3]}.h5"
        columns = {"group": groups, "template": templates, "text": groups}
        ids = [str(number) for number in range(5)]
        checks = row_checksums({"text": vectors}, 5)
        write_view(
            path, identity=identity, backbone="tiny", ids=ids, keys=keys_of(range(5)), checksums=checks,
            arrays={"text": vectors}, columns=columns,
        )  # fmt: skip
        return path

    path = write(CLIP.weights)
    found = class_vectors(path, ["sky", "road", "car"], "names", view)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sky = unit[:2].mean(axis=0)
    np.testing.assert_allclose(found, [sky / np.linalg.norm(sky), unit[2], unit[3]], atol=1e-6)
    with pytest.raises(UsageError, match="there are names, photo"):
        class_vectors(path, ["sky"], "descriptions", view)
    with pytest.raises(DataError, match="no photo of the class 'road'"):
        class_vectors(path, ["sky", "road"], "photo", view)
    with pytest.raises(IdentityError, match="different models"):
        class_vectors(write("f" * 64), ["sky"], "names", view)
    with pytest.raises(
        StoreError, match=r"maps\.h5 holds no words of classes, but 20 rows of kind 'pyramid@3'"
    ):
        class_vectors(street.maps, ["sky"], "names", view)
    with pytest.raises(UsageError, match="needs words"):
        given = params(methods={"bilinear": {}})
        asked = Asked("bilinear", "bilinear", "learned", {}, given.training)
        learn_decoder(asked, given, street.open(), words=None, running=Running(), out=None)
    assert View(path).kind == "text"


def test_nobody_waits_for_a_better_epoch_where_all_is_learned_from(street: Street) -> None:
    given = params(learn_from=["train", "val"], training={"patience": 2, "epochs": 3})
    with pytest.raises(UsageError, match="patience: 2 waits for a better epoch on val"):
        learned(street, given)


def test_a_place_that_will_not_do_is_told_before_anything_is_learned(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "learned", None)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match=r"holds other files \(such as 'letter.txt'\)"):
        learned(street, params(), tmp_path)


def test_films_are_cut_into_stretches(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = Scenes(street.scenes)
    ids = [f"{number}.png" for number in range(20)]
    groups, unit = resampled(ids, scenes)
    assert unit == "groups" and len(set(groups.values())) == 20
    ids = [f"{number}.png" for number in range(48)]
    monkeypatch.setattr(scenes, "group_of", lambda one: "a" if int(one.removesuffix(".png")) < 20 else "b")
    groups, unit = resampled(ids, scenes)
    # Twelve stretches of four pictures each, none of both films.
    wanted = [f"a/{k // 4}" for k in range(20)] + [f"b/{k // 4}" for k in range(28)]
    assert unit == "stretches" and [groups[one] for one in ids] == wanted


def test_what_stands_for_scenes_changes_with_each_of_their_files(street: Street, tmp_path: Path) -> None:
    def digest(part: str = "train", label: int = 1, name: str = "road") -> str:
        labels = np.full((HEIGHT_PX, WIDTH_PX), label, np.uint8)
        content = street_world.picture_of(0)
        core = {"item_id": "a", "key": key_of_bytes(content), "given": part}
        core |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX}
        folder = tmp_path / f"{part}{label}{name}"
        write_scenes(
            folder, [CLASSES[0], SceneClass(name, (1, 2, 3))], iter([SceneRow(core, content, labels)])
        )
        return Scenes(folder).digest

    assert len({digest(), digest(part="val"), digest(label=0), digest(name="street")}) == 4


def test_the_command_says_that_words_are_needed(street: Street) -> None:
    told = cli_world.call(
        "fit-decoder",
        "--scenes",
        street.scenes,
        "--maps",
        street.maps,
        "--depot",
        street.depot,
        "--decoder",
        "bilinear",
    )
    assert told.status == 2 and "--words" in told.err and "Traceback" not in told.err


def test_the_command_tells_trackers(street: Street, tmp_path: Path) -> None:
    where = ["--scenes", street.scenes, "--maps", street.maps, "--depot", street.depot, "--decoder", "linear"]
    logs = ["--track", "tensorboard", "--log-dir", tmp_path]
    cli_world.done("fit-decoder", *where, "--epochs", 1, *logs)
    (told,) = tmp_path.iterdir()
    events = EventAccumulator(str(told))
    events.Reload()
    assert {"train/loss", "epoch/loss"} <= set(events.Tags()["scalars"])
    refused = cli_world.call("fit-decoder", *where[:-1], "bilinear", "--words", tmp_path, *logs)
    assert refused.status == 2 and "'bilinear' learns nothing, so no tracker can be told" in refused.err


def test_maps_of_other_pictures_are_refused(street: Street, tmp_path: Path) -> None:
    """The same ids, of which two show something else since, and one more that has no maps."""
    numbers = list(range(20))
    others = street_world.write_street(tmp_path / "others", [*numbers[:4], 9, 8, *numbers[6:]])
    told = r"saw other pictures than .*others.* holds for 2 items, the first: '4\.png'; extract again"
    with pytest.raises(StoreError, match=rf"maps\.h5 {told}"):
        replace(street, scenes=others).open()
    maps = street_world.write_maps(tmp_path / "new.h5", street.depot, others)
    with pytest.raises(StoreError, match=rf"maps\.flip\.h5 {told}"):
        replace(street, scenes=others, maps=maps).open()
    grown = street_world.write_street(tmp_path / "grown", range(21))
    with pytest.raises(StoreError, match=r"lacks 1 of 21 items that did not fail, the first: '20\.png'"):
        replace(street, scenes=grown).open()


def test_maps_are_taken_for_nothing_else_than_they_are(street: Street, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"maps\.flip\.h5 holds maps of mirrored pictures .*--flipped"):
        replace(street, maps=street.flipped).open()
    with pytest.raises(IdentityError, match=r"maps\.h5 has another identity: kind: pyramid@3\+flip against"):
        replace(street, flipped=street.maps).open()
    other = street_world.write_maps(
        tmp_path / "other.h5", street.depot, street.scenes, kind="pyramid@3+flip", weights="f" * 64
    )
    with pytest.raises(IdentityError, match=r"other\.h5 has another identity: weights"):
        replace(street, flipped=other).open()
    for kind in ("pyramid@3", "pyramid@3+flip"):
        identity = replace(street.open().view.identity, kind=kind)
        write_empty_view(tmp_path / f"{kind}.h5", identity=identity, backbone="tiny")
    with pytest.raises(UsageError, match=r"pyramid@3\.h5 holds no maps; `deponij extract --kind pyramid@3`"):
        replace(street, maps=tmp_path / "pyramid@3.h5").open()
    # What the stage writes where mirrored maps were not asked for.
    assert not replace(street, flipped=tmp_path / "pyramid@3+flip.h5").open().mirrors


def test_a_depot_without_the_maps_is_named_with_the_ways_to_them(street: Street, tmp_path: Path) -> None:
    """The command makes features of the same identity: of this size and, of a JPEG, all pixels."""
    ways = r"deponij depot merge OTHER \S+nowhere`.*deponij extract --backbone tiny --kind pyramid@3 --input-px 64 96 "
    with pytest.raises(
        StoreError, match=rf"maps\.h5 names maps \(pyramid@3 of tiny\) .* there is no depot at .*{ways}"
    ):
        replace(street, depot=tmp_path / "nowhere").open()
    identity = {"decode": "pillow:full", "precision": "bf16"}
    maps = street_world.write_maps(tmp_path / "other.h5", tmp_path / "depot", street.scenes, **identity)
    asked = "--input-px 64 96 --decode full --precision bf16 --items"
    with pytest.raises(StoreError, match=rf"lacks the maps of 20 of 20 .* the first: '0\.png'\..*{asked}"):
        replace(street, maps=maps).open(mirrored=False)


def test_nothing_to_judge_is_told(street: Street, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(DataError, match="no picture of the part other"):
        street.open().ids(["other"])
