"""`deponij segment`, end to end with tiny models: what is written, by which model, and refusals.

Expected label maps are computed here by the model's own parts: transform, maps, projection or decoder, argmax.
"""

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from cli_world import Answer, call, done
from PIL import Image

import deponij
from deponij.pipeline.backbones import describe, load
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.decoders.linear import Linear
from deponij.pipeline.decoders.saved import DECODERS, Applied, decoder_files, load_decoder
from deponij.pipeline.heads.head import FeatureSource
from deponij.pipeline.pictures import Route, decode
from deponij.pipeline.segmenting.network import levels_of
from deponij.project.extraction import identities
from deponij.services.segment.files import MADE_BY

OPTIONS = ["--device", "cpu", "--threads", 1]
CLASSES = ["can", "cup", "lid"]
WORDS = ["--classes", ",".join(CLASSES)]
COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))
INPUT_PX = (64, 96)
KIND = Kind.parse("pyramid@4")


@dataclass(frozen=True)
class World:
    root: Path
    models: tiny_models.Shelf

    @property
    def clip(self) -> list[object]:
        return ["--backbone", self.models["open_clip_convnext"]]

    @property
    def decoder(self) -> Path:
        return self.root / "decoder"


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def write_decoder(folder: Path, spec: str) -> None:
    """A linear decoder with random weights, on maps of `spec` whose means it has seen once."""
    told = describe(spec, input_px=INPUT_PX)
    identity = identities.of_pictures(told, KIND, Route.FULL, "fp32", "float16")
    model = load(spec, input_px=INPUT_PX)
    levels = levels_of(model, KIND)
    torch.manual_seed(0)
    module = Linear().build(levels, len(CLASSES))
    for name, weights in module.named_parameters():
        torch.nn.init.normal_(weights) if "weight" in name else torch.nn.init.zeros_(weights)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    batch = torch.from_numpy(told.transform.apply(picture(*INPUT_PX)))[None]
    with torch.no_grad():
        module.train()(list(KIND.compute(model, batch).values()), INPUT_PX)
    source = FeatureSource(
        backbone="tiny",
        fingerprint=identity.fingerprint,
        labels="scenes",
        identity=json.loads(identity.to_json()),
    )
    applied = Applied(levels, CLASSES, COLOURS, source, INPUT_PX, "learned nothing")
    DECODERS.write(folder, decoder_files(Linear(), module, None, applied))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("segment")
    made = World(root, tiny_models.Shelf(root / "models"))
    (root / "pictures").mkdir()
    picture(*INPUT_PX).save(root / "pictures" / "fits.png")
    picture(150, 90, 1).save(root / "pictures" / "tall.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        write_decoder(made.decoder, str(made.models["open_clip_convnext"]))
    return made


@pytest.fixture(autouse=True)
def in_a_folder(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPONIJ_CACHE", str(world.root / "cache"))


def segment(*arguments: object, status: int = 0) -> Answer:
    return done("segment", *arguments, *OPTIONS, status=status)


def labels_of(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def test_words_are_compared_with_the_projected_map(world: World) -> None:
    # At scale 1 and the input's own size: one window, no resizing.
    spec = str(world.models["open_clip_convnext"])
    picture(64, 64, 2).save("square.png")
    answer = segment("square.png", *WORDS, *world.clip, "--scales", 1, "--json").json
    model = load(spec)
    batch = model.description.transform.apply(Image.open("square.png"))
    cells = model.project(model.dense(torch.from_numpy(batch)[None], blocks=1)[-1].values)
    texts = model.embed_texts([f"a photo of a {name}" for name in CLASSES])
    texts = texts / texts.norm(dim=1, keepdim=True)
    # The grid of words has cells of 4 px; features are upsampled to it, then compared.
    fine = torch.nn.functional.interpolate(cells, size=(16, 16), mode="bilinear", align_corners=False)
    cosines = torch.einsum("ndhw,cd->nchw", fine / fine.norm(dim=1, keepdim=True), texts)
    probs = torch.nn.functional.interpolate(
        (cosines / 0.01).softmax(1), size=(64, 64), mode="bilinear", align_corners=False
    )
    found = labels_of(answer["pictures"][0]["labels"])
    assert (found == probs.argmax(1)[0].numpy()).mean() > 0.999
    shares = np.bincount(found.ravel(), minlength=3) / found.size
    assert answer["pictures"][0]["shares"] == {
        CLASSES[k]: pytest.approx(shares[k]) for k in np.argsort(-shares, kind="stable") if shares[k]
    }
    assert answer["says_always"] is True


def test_a_trained_decoder_answers_as_it_learned(world: World) -> None:
    spec = world.models["open_clip_convnext"]
    path = world.root / "pictures" / "fits.png"
    answer = segment(path, "--model", world.decoder, "--backbone-spec", spec, "--json").json
    model = load(str(spec), input_px=INPUT_PX)
    batch = model.description.transform.apply(Image.open(path))
    maps = KIND.compute(model, torch.from_numpy(batch)[None])
    card, module = load_decoder(world.decoder)
    with torch.inference_mode():
        expected = module([maps[one.name] for one in card.levels], INPUT_PX).argmax(1)[0].numpy()
    found = labels_of(answer["pictures"][0]["labels"])
    assert (found == expected).all()
    assert len(np.unique(found)) > 1
    assert answer["model"]["decoder"] == "linear"
    assert [one["colour"] for one in answer["classes"]] == [list(one) for one in COLOURS]


def test_a_decoder_refuses_another_backbone(world: World) -> None:
    path = world.root / "pictures" / "fits.png"
    other = tiny_models.open_clip_convnext(world.root / "other", seed=1)
    answer = call("segment", path, "--model", world.decoder, "--backbone-spec", other, *OPTIONS)
    assert answer.status == 1
    assert "weights" in answer.err and "does not belong to this backbone" in answer.err
    unnamed = call("segment", path, "--model", world.decoder, *OPTIONS)
    assert unnamed.status == 1 and "--backbone-spec FOLDER" in unnamed.err


def test_a_damaged_decoder_is_refused(world: World, tmp_path: Path) -> None:
    for file in world.decoder.iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "damaged" / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / "damaged" / file.name).write_bytes(bytes(data))
    path = world.root / "pictures" / "fits.png"
    answer = call("segment", path, "--model", "damaged", "--backbone-spec", world.clip[1], *OPTIONS)
    assert answer.status == 1 and "Traceback" not in answer.err


def test_what_is_written(world: World) -> None:
    answer = segment(world.root / "pictures", *WORDS, *world.clip, "--flip", "--coco", "found.json").out
    assert "every pixel gets one of the classes" in answer
    found = labels_of("segments/tall.labels.png")
    assert found.shape == (150, 90)
    with Image.open("segments/tall.overlay.jpg") as overlay:
        # A legend below, and a page as wide as words need.
        assert overlay.size[0] >= 360 and overlay.size[1] > 150
    named = json.loads(Path("segments/classes.json").read_text())
    assert [one["name"] for one in named["classes"]] == CLASSES
    assert set(named["label_maps"]) == {"tall.labels.png", "fits.labels.png"}
    with Image.open("segments/tall.labels.png") as image:
        assert json.loads(image.info["Description"]) == CLASSES
        assert image.getpalette()[:9] == [value for one in named["classes"] for value in one["colour"]]


def test_coco_files_load(world: World) -> None:
    from pycocotools.coco import COCO

    segment(world.root / "pictures", *WORDS, *world.clip, "--coco", "found.json")
    coco = COCO("found.json")
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == set(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        labels = labels_of(Path("segments") / f"{Path(image['file_name']).stem}.labels.png")
        seen = np.zeros_like(labels)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation)
            assert (mask == (labels == annotation["category_id"] - 1)).all()
            assert annotation["area"] == mask.sum()
            seen += mask
        assert (seen == 1).all()


def test_coco_does_not_overwrite_annotations(world: World) -> None:
    Path("mine.json").write_text('{"annotations": []}')
    answer = call("segment", world.root / "pictures", *WORDS, *world.clip, "--coco", "mine.json", *OPTIONS)
    assert answer.status == 2 and "mine.json is there" in answer.err
    assert Path("mine.json").read_text() == '{"annotations": []}'


def test_background_and_threshold_say_none(world: World) -> None:
    fits = world.root / "pictures" / "fits.png"
    answer = segment(fits, "--classes", "can", "--background", "cup, lid", *world.clip, "--json").json
    found = labels_of(answer["pictures"][0]["labels"])
    assert set(np.unique(found)) <= {0, 255}
    assert answer["pictures"][0]["none"] == pytest.approx((found == 255).mean())
    assert answer["says_always"] is False
    sure = segment(fits, *WORDS, *world.clip, "--threshold", 0.999, "--json").json
    assert sure["pictures"][0]["none"] > 0


@pytest.mark.parametrize("more", [[], ["--background", "cup"]])
def test_a_heat_map_of_words(world: World, more: Sequence[str]) -> None:
    fits = world.root / "pictures" / "fits.png"
    answer = segment(fits, "--query", "a red can", *more, *world.clip, "--json").json
    (found,) = answer["pictures"]
    x, y = found["highest_at"]
    assert 0 <= x < 96 and 0 <= y < 64
    assert (-1 if not more else 0) <= found["low"] < found["high"] <= 1
    assert sorted(path.name for path in Path("segments").iterdir()) == ["fits.heat.jpg"]


def test_pictures_of_one_name_and_own_outputs(world: World) -> None:
    for name in ("a/x.png", "b/x.png", "b/X.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        picture(20, 30).save(name)
    before = {name: Path(name).read_bytes() for name in ("a/x.png", "b/x.png", "b/X.jpg")}
    first = segment(".", *WORDS, *world.clip, "--json").json
    assert len({one["labels"].casefold() for one in first["pictures"]}) == 3
    again = segment(".", *WORDS, *world.clip, "--json")
    # What was written into ./segments is no picture of the user's.
    assert [one["path"] for one in again.json["pictures"]] == [one["path"] for one in first["pictures"]]
    assert "6 pictures" in again.err and MADE_BY in again.err
    assert {name: Path(name).read_bytes() for name in before} == before


def test_nothing_of_the_users_is_overwritten(world: World) -> None:
    picture(20, 30).save("x.png")
    Path("out").mkdir()
    picture(10, 10).save("out/x.labels.png")
    kept = Path("out/x.labels.png").read_bytes()
    answer = segment("x.png", *WORDS, *world.clip, "--out", "out", status=1)
    assert "was not made by" in answer.err
    assert Path("out/x.labels.png").read_bytes() == kept


def encoded(image: Image.Image, kind: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def odd_pictures() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """File name -> content, and (height, width) of the label map."""
    noise = np.random.default_rng(0)
    turned = Image.new("RGB", (30, 20)).getexif()
    turned[274] = 6
    grey = Image.fromarray(noise.integers(0, 65536, (20, 30)).astype(np.uint16))
    frames = [picture(20, 30, seed) for seed in range(3)]
    return {
        "one.png": (encoded(picture(1, 1), "PNG"), (1, 1)),
        "cmyk.jpg": (encoded(picture(20, 30).convert("CMYK"), "JPEG"), (20, 30)),
        "sixteen.png": (encoded(grey, "PNG"), (20, 30)),
        "moving.gif": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), (20, 30)),
        "clear.png": (encoded(picture(20, 30).convert("RGBA"), "PNG"), (20, 30)),
        "strip.png": (encoded(picture(700, 1), "PNG"), (700, 1)),
        "turned.jpg": (encoded(picture(20, 30), "JPEG", exif=turned.tobytes()), (30, 20)),
        "😀 of a day.png": (encoded(picture(20, 30), "PNG"), (20, 30)),
    }


def test_odd_pictures(world: World, tmp_path: Path) -> None:
    Path("odd").mkdir()
    for name, (content, _) in odd_pictures().items():
        Path("odd", name).write_bytes(content)
    Path("odd/words.jpg").write_text("no picture")
    Path("odd/cut.png").write_bytes(encoded(picture(20, 30), "PNG")[:60])
    answer = segment("odd", *WORDS, *world.clip, "--json", status=3)
    sizes = {Path(one["path"]).name: labels_of(one["labels"]).shape for one in answer.json["pictures"]}
    assert sizes == {name: size for name, (_, size) in odd_pictures().items()}
    assert {Path(one["path"]).name for one in answer.json["failures"]} == {"words.jpg", "cut.png"}
    assert "2 of 10 could not be segmented" in answer.err


BAD = {
    "nothing": ([], "name pictures"),
    "no words": (["fits.png"], "name pictures"),
    "no classes": (["fits.png", "--classes", " , "], "names nothing"),
    "empty query": (["fits.png", "--query", " "], "names nothing"),
    "one class": (["fits.png", "--classes", "can"], "every pixel is 'can'"),
    "doubled": (["fits.png", "--classes", "can, Can"], "'can' occurs twice"),
    "too many": (["fits.png", "--classes", ",".join(map(str, range(300)))], "1 to 255 classes, got 300"),
    "two ways": (["fits.png", *WORDS, "--query", "can"], "give one of them"),
    "both": (["fits.png", *WORDS, "--model", "decoder"], "exclude each other"),
    "in background": (["fits.png", *WORDS, "--background", "cup"], "is a class and --background"),
    "empty background": (["fits.png", *WORDS, "--background", ""], "--background is empty"),
    "background alone": (["fits.png", "--background", "x"], "go with words"),
    "no such file": (["fits.png", "--classes-file", "none.txt"], "cannot be read"),
    "no text": (["fits.png", "--classes-file", "fits.png"], "no UTF-8 text"),
    "scales": (["fits.png", *WORDS, "--scales", "0.5"], "--scales are"),
    "overlap": (["fits.png", *WORDS, "--overlap", "1"], "overlap"),
    "threshold": (["fits.png", *WORDS, "--threshold", "1"], "--threshold"),
    "window": (["fits.png", *WORDS, "--window", "x"], "--window"),
    "coco of heat": (["fits.png", "--query", "can", "--coco", "x.json"], "heat maps"),
    "coco ending": (["fits.png", *WORDS, "--coco", "x.csv"], ".json"),
    "spec of words": (["fits.png", *WORDS, "--backbone-spec", "x"], "--backbone-spec goes with --model"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_usage(case: str) -> None:
    picture(20, 30).save("fits.png")
    arguments, told = BAD[case]
    answer = call("segment", *arguments)
    assert answer.status == 2, answer
    assert told in answer.err and "Traceback" not in answer.err
    assert not Path("segments").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [("dinov2", "knows no words"), ("siglip", "whole pictures only"), ("timm_resnet", "knows no words")],
)
def test_backbones_without_words_for_places(world: World, name: str, told: str) -> None:
    answer = call("segment", world.root / "pictures", *WORDS, "--backbone", world.models[name], *OPTIONS)
    assert answer.status == 1 and told in answer.err


def test_no_decoder_and_no_pictures(world: World) -> None:
    Path("empty").mkdir()
    answer = call("segment", world.root / "pictures", "--model", "empty", *OPTIONS)
    assert answer.status == 1 and "no trained decoder" in answer.err
    answer = call("segment", "empty", *WORDS, *OPTIONS)
    assert answer.status == 1 and "no pictures in empty" in answer.err


def test_a_class_may_hold_commas_in_a_file(world: World) -> None:
    Path("classes.txt").write_text("can, crushed\n\n  paper   cup \n😀\n", encoding="utf-8")
    fits = world.root / "pictures" / "fits.png"
    answer = segment(fits, "--classes-file", "classes.txt", *world.clip, "--json").json
    assert [one["name"] for one in answer["classes"]] == ["can, crushed", "paper cup", "😀"]


def test_windows_of_another_size(world: World) -> None:
    answer = segment(
        world.root / "pictures" / "fits.png",
        *WORDS,
        "--backbone",
        "mini-openclip",
        "--window",
        "96x128",
        "--json",
    ).json
    assert answer["model"]["window_px"] == [96, 128]
    assert answer["model"]["toy"] is True


def test_the_default_backbone_knows_words(world: World) -> None:
    answer = segment(world.root / "pictures" / "fits.png", *WORDS, "--json").json
    assert answer["model"]["backbone"] == "mini-openclip"


def test_label_maps_are_sound_png(world: World) -> None:
    segment(world.root / "pictures" / "fits.png", *WORDS, *world.clip)
    data = Path("segments/fits.labels.png").read_bytes()
    place, kinds = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kinds.append(data[place + 4 : place + 8].decode())
        place += length + 12
    assert kinds[0] == "IHDR" and kinds[-1] == "IEND" and kinds.count("tEXt") == 2
    decode(data)  # which holds every chunk against its checksum


def test_as_a_library(world: World) -> None:
    fits = world.root / "pictures" / "fits.png"
    answer = segment(fits, *WORDS, *world.clip, "--json").json
    spec = str(world.clip[1])
    found = deponij.segment(fits, "again", classes=CLASSES, backbone=spec, device="cpu", threads=1)
    assert [one.shares for one in found.pictures] == [one["shares"] for one in answer["pictures"]]
    learned = deponij.segment([fits], "learned", model=world.decoder, backbone=spec, threads=1)
    assert learned.model.decoder == "linear"
    hot = deponij.segment([str(fits)], "hot", query="can", backbone=spec, threads=1)
    assert hot.query == "can" and Path("hot/fits.heat.jpg").is_file()
    with pytest.raises(deponij.DeponijError, match="give one of"):
        deponij.segment(fits, "x", classes=CLASSES, query="can")
    with pytest.raises(deponij.DeponijError, match="every pixel is 'can'"):
        deponij.segment(fits, "x", classes=["can"])
