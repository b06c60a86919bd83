"""Scenes in, maps in the depot and views out. Expected maps are the model's own, of pictures and of mirrored ones."""

import io
from collections.abc import Iterator
from pathlib import Path

import fake_backbone
import numpy as np
import pytest
import scenes_world
import street_world
import tiny_models
import torch
import yaml
from PIL import Image
from under_dvc import under_dvc

from deponij.pipeline.backbones import as_batch, load
from deponij.project.extraction import dense_room
from deponij.project.extraction.dense_room import Room
from deponij.project.extraction.extracting import FeatureParams, found_backbone
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.frame.settings import RunOptions
from deponij.project.segmentation.learn import Running, asked_of, learn_decoder
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.sources import StoredScenes
from deponij.stages import extract_dense as stage
from deponij.stages.extract_dense import DenseParams, DenseResult
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, UsageError
from deponij.store.reading import MapReader, Window
from deponij.store.view import View

INPUT_PX = (24, 32)


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return fake_backbone.make(tmp_path / "model")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return scenes_world.write(tmp_path / "scenes", range(12), damaged=[99])


def run(tmp_path: Path, model: Path, scenes: Path, **params: object) -> DenseResult:
    options = RunOptions(depot=str(tmp_path / "depot"), batch_size=4, workers=2, threads=1)
    wanted = DenseParams(**{"spec": str(model), "kind": "pyramid@2", "input_px": INPUT_PX} | params)
    files = {"out": "tiny.h5", "flip_out": "tiny.flip.h5", "words_out": "tiny.words.h5"}
    paths = {name: tmp_path / file for name, file in files.items()}
    return stage.run(wanted, "tiny", scenes=scenes, options=options, **paths)


def reader(tmp_path: Path, name: str) -> MapReader:
    return MapReader(View(tmp_path / name, depot=FeatureStore(tmp_path / "depot")))


def expected(model: Path, numbers: list[int], *, mirrored: bool) -> dict[str, np.ndarray]:
    backbone = load(str(model), input_px=INPUT_PX)
    pixels = [scenes_world.pixels_of(number) for number in numbers]
    images = [Image.fromarray(one[:, ::-1] if mirrored else one) for one in pixels]
    maps = backbone.dense(
        as_batch([backbone.description.transform.apply(image) for image in images]), blocks=2
    )
    return {f"stride8_{one.name}": one.values.to(torch.float16).numpy() for one in maps}


def test_maps_of_pictures_and_of_mirrored_ones(tmp_path: Path, model: Path, scenes: Path) -> None:
    result = run(tmp_path, model, scenes, flip=True)
    assert result.flipped is not None
    for one in (result.maps, result.flipped):
        assert (one.n_items, one.n_computed, one.n_failed) == (13, 12, 1)
    numbers = [3, 11, 0]
    for name, mirrored in (("tiny.h5", False), ("tiny.flip.h5", True)):
        maps = reader(tmp_path, name)
        assert maps.input_px == INPUT_PX
        found = maps.read([f"{number}.png" for number in numbers])
        wanted = expected(model, numbers, mirrored=mirrored)
        assert list(found) == list(wanted) == ["stride8_block0", "stride8_block1"]
        for level, values in wanted.items():
            assert values.shape == (3, 8, 3, 4)
            np.testing.assert_array_equal(found[level], values)
        view = View(tmp_path / name)
        assert view.array_names == [] and view.backbone == "tiny"
        assert [item_id for item_id, _ in view.failures] == ["99.png"]
    assert View(tmp_path / "tiny.h5").kind == "pyramid@2"
    flipped = View(tmp_path / "tiny.flip.h5")
    assert flipped.kind == "pyramid@2+flip"
    # The key is the picture's own.
    assert flipped.keys.tolist() == View(tmp_path / "tiny.h5").keys.tolist()


def test_only_new_pictures_are_computed(
    tmp_path: Path, model: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, model, scenes)
    told = capsys.readouterr().err
    assert "tiny, pyramid@2: 13 of 13 rows are new" in told and "10 pictures tried" in told
    scenes_world.write(scenes, range(14))
    again = run(tmp_path, model, scenes)
    assert (again.maps.n_known, again.maps.n_computed) == (12, 2)
    assert "2 of 14 rows are new" in capsys.readouterr().err
    last = run(tmp_path, model, scenes)
    assert (last.maps.n_known, last.maps.n_computed) == (14, 0)
    assert "rows are new" not in capsys.readouterr().err


def test_without_flip_its_view_is_empty(tmp_path: Path, model: Path, scenes: Path) -> None:
    run(tmp_path, model, scenes, kind="dense@1")
    view = View(tmp_path / "tiny.flip.h5")
    assert (len(view), view.kind) == (0, "dense@1+flip")
    # Names of dense@K tell no stride: it is 24 px over 3 cells.
    [level] = reader(tmp_path, "tiny.h5").levels
    assert (level.name, level.height, level.stride_px) == ("block0", 3, 8)


def test_a_pyramid_from_stride_2_on(tmp_path: Path) -> None:
    """All five stages of a convolutional tower are timm's own; a decoder learns from them, on windows too."""
    import timm

    tower = tiny_models.timm_resnet(tmp_path / "tower")
    street = street_world.write_street(tmp_path / "street", range(20))
    size = (street_world.HEIGHT_PX, street_world.WIDTH_PX)
    run(tmp_path, tower, street, kind="pyramid@5", input_px=size)
    maps = reader(tmp_path, "tiny.h5")
    assert [(one.name, one.stride_px) for one in maps.levels] == [
        (f"stride{2**i}", 2**i) for i in range(1, 6)
    ]
    pixels = load(str(tower), input_px=size).description.transform.apply(
        Image.open(io.BytesIO(street_world.picture_of(3))).convert("RGB")
    )
    model = timm.create_model(f"local-dir:{tower}", pretrained=True, num_classes=0).eval()
    with torch.inference_mode():
        wanted = model.forward_intermediates(as_batch([pixels]), intermediates_only=True)
    for level, values in zip(maps.read(["3.png"]).values(), wanted, strict=True):
        np.testing.assert_allclose(level, values.numpy(), rtol=2e-3, atol=1e-3)
    (cut,) = maps.read(["3.png"], [Window(1, 1, 1, 2)])["stride2"]
    np.testing.assert_array_equal(cut, maps.read(["3.png"])["stride2"][0][:, 16:32, 16:48])

    params = DecodersParams.model_validate(
        {
            "methods": {"linear": {}},
            "window_px": (32, 64),
            "training": {"epochs": 8, "batch_size": 4, "lr": 0.02},
        }
    )
    (asked,) = asked_of(params, with_words=False)
    source = StoredScenes.open(street, tmp_path / "tiny.h5", None, str(tmp_path / "depot"))
    result = learn_decoder(asked, params, source, words=None, running=Running(n_threads=1), out=None)
    assert result.parts["test"].miou > 2 * result.parts["test"].majority_miou


def test_batches_of_maps_are_small_where_nobody_says(model: Path) -> None:
    found = found_backbone(FeatureParams(kind="pyramid@2"), str(model))
    vectors = found_backbone(FeatureParams(), str(model))
    sizes = [
        FeatureMaker(one, RunOptions(device="cpu", batch_size=asked)).progress().batch_size
        for one, asked in ((found, 0), (found, 64), (vectors, 0))
    ]
    assert sizes == [16, 64, 32]


def test_words_of_classes(tmp_path: Path, model: Path, scenes: Path) -> None:
    run(tmp_path, model, scenes, words=("names", "descriptions", "photo"))
    view = View(tmp_path / "tiny.words.h5")
    rows = list(zip(view.columns["template"], view.columns["group"], view.columns["text"], strict=True))
    assert rows == [
        ("names", "road", "road"),
        ("names", "SignSymbol", "sign symbol"),
        ("descriptions", "road", "what cars drive on"),
        ("descriptions", "SignSymbol", "sign symbol"),
        ("photo", "road", "a photo of a road"),
        ("photo", "SignSymbol", "a photo of a sign symbol"),
    ]
    texts = load(str(model)).embed_texts(view.columns["text"].tolist())
    np.testing.assert_array_equal(view.embedding, texts.numpy())
    run(tmp_path, model, scenes)
    assert set(View(tmp_path / "tiny.words.h5").columns["template"].tolist()) == {"names", "descriptions"}
    run(tmp_path, model, scenes, words=False)
    assert len(View(tmp_path / "tiny.words.h5")) == 0
    with pytest.raises(
        UsageError, match="words of classes are names, descriptions, a set of templates .*got 'nams'"
    ):
        run(tmp_path, model, scenes, words=("nams",))


def test_a_backbone_without_words(tmp_path: Path, scenes: Path) -> None:
    mute = fake_backbone.make(tmp_path / "mute", has_text=False)
    assert run(tmp_path, mute, scenes).words is None
    assert len(View(tmp_path / "tiny.words.h5")) == 0
    with pytest.raises(UsageError, match=r"tiny knows no words; leave `words` of dense\.tiny out"):
        run(tmp_path, mute, scenes, words=("names",))


def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(
    tmp_path: Path, model: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_room, "free_bytes", lambda folder: 5_000_000)
    with pytest.raises(StoreError, match=r"maps of tiny take 5 kB .* 5 MB are free at .*make room there"):
        run(tmp_path, model, scenes)
    assert FeatureStore(tmp_path / "depot").sidecars == []
    assert not (tmp_path / "tiny.h5").exists()


def test_what_is_said_of_the_room() -> None:
    """EfficientNet-Lite0 at 360 x 480 px: 986,480 bytes a picture, and as many mirrored."""
    room = Room(
        backbone="lite",
        kinds=("pyramid@4", "pyramid@4+flip"),
        depot="/depot",
        n_pictures=701,
        n_new=1402,
        maps={"stride4": (24, 90, 120), "stride32": (320, 12, 15)},
        row_bytes=986_480,
        new_bytes=986_480 * 1402,
        free_bytes=70_000_000_000,
        seconds=95.0,
        n_tried=10,
        device="cpu",
    )
    assert str(room) == (
        "lite, pyramid@4 and pyramid@4+flip: 1402 of 1402 rows are new; 986 kB a picture (stride4 24x90x120, "
        "stride32 320x12x15), 1.4 GB in the depot, where 70.0 GB are free; about 1 min 35 s on cpu (10 pictures tried)"
    )


def test_what_is_no_map_is_refused(tmp_path: Path, model: Path, scenes: Path) -> None:
    with pytest.raises(UsageError, match="embedding is no map"):
        run(tmp_path, model, scenes, kind="embedding")
    with pytest.raises(UsageError, match=r"dense\.tiny: say `kind: pyramid@2` and `flip: true`"):
        run(tmp_path, model, scenes, kind="pyramid@2+flip")


def test_under_dvc(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPONIJ_DEVICE", "cpu")
    scenes_world.write(tmp_path / "runs" / "small" / "scenes", range(3))
    section = {"tiny": {"spec": str(model), "kind": "dense@1", "input_px": list(INPUT_PX), "flip": True}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"profile": "small", "dense": section}))
    under_dvc(stage)
    names = sorted(path.name for path in (tmp_path / "runs" / "small" / "dense").iterdir())
    assert names == ["tiny.flip.h5", "tiny.h5", "tiny.words.h5"]
