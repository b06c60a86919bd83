"""The generated sample: deterministic, annotated truthfully, varied."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from deponij.sample.painter import CATEGORIES, NAMES, generate, render
from deponij.sample.painter.canvas import Canvas, Pose, box
from deponij.sample.painter.scene import MIN_VISIBLE, area, clip
from deponij.store.errors import DataError, UsageError

SCENES = 8


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    generate(root, scenes=SCENES, seed=5, workers=1)
    return root


def test_same_seed_same_bytes_whatever_the_number_of_workers(sample: Path, tmp_path: Path) -> None:
    generate(tmp_path, scenes=SCENES, seed=5, workers=2)
    assert digests(tmp_path) == digests(sample)
    generate(tmp_path, scenes=SCENES, seed=6, workers=1)
    other, first = digests(tmp_path), digests(sample)
    assert not set(other.values()) & set(first.values())


# NumPy, OpenBLAS and glibc choose their arithmetic by the processor's vector units; without these they fall
# back on what every x86-64 processor can do.
OLD_PROCESSOR = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3",
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
}
FLOAT32_EXP = (
    "import hashlib, numpy as np;"
    "print(hashlib.sha256(np.exp(np.linspace(-9, 9, 9999, dtype=np.float32))).hexdigest())"
)
# Among these twenty, three differed while float32 functions of NumPy's drew them.
TWENTY_SCENES = (
    "import sys, pathlib; from deponij.sample.painter import generate;"
    "generate(pathlib.Path(sys.argv[1]), scenes=20, seed=6, workers=1)"
)


def test_same_bytes_on_processors_with_and_without_wide_vectors(tmp_path: Path) -> None:
    new, old = dict(os.environ), os.environ | OLD_PROCESSOR
    exps = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FLOAT32_EXP], env=env, capture_output=True, check=True
        ).stdout
        for env in (new, old)
    }
    if len(exps) == 1:
        pytest.skip("NumPy's float32 exp has one form here, with or without vector units")
    running = [
        subprocess.Popen([sys.executable, "-c", TWENTY_SCENES, str(tmp_path / name)], env=env)
        for name, env in (("new", new), ("old", old))
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert digests(tmp_path / "new") == digests(tmp_path / "old")
    assert len(digests(tmp_path / "new")) == 21


def test_more_scenes_add_pictures_and_change_none_and_fewer_remove_them(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_bytes(b"not the sample's")
    (tmp_path / "images" / "000099.jpg.part").write_bytes(b"left by a kill")
    generate(tmp_path, scenes=SCENES + 2, seed=5, workers=1)
    more = json.loads((tmp_path / "annotations.json").read_text())
    first = json.loads((sample / "annotations.json").read_text())
    assert more["images"][:SCENES] == first["images"]
    assert more["annotations"][: len(first["annotations"])] == first["annotations"]
    assert {
        k: v for k, v in digests(tmp_path).items() if k in digests(sample) and k != "annotations.json"
    } == {k: v for k, v in digests(sample).items() if k != "annotations.json"}
    generate(tmp_path, scenes=SCENES, seed=5, workers=1)
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {f"{i:06d}.jpg" for i in range(SCENES)} | {"mine.jpg"}


def test_annotations_are_coco_and_fit_the_pictures(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(sample / "annotations.json")
    capsys.readouterr()
    assert [category["name"] for category in coco.dataset["categories"]] == list(NAMES)
    assert len(NAMES) >= 12 and all(category["supercategory"] for category in coco.dataset["categories"])
    for record in coco.dataset["images"]:
        with Image.open(sample / "images" / record["file_name"]) as image:
            assert image.format == "JPEG"
            assert image.size == (record["width"], record["height"])
            assert min(image.size) >= 480 and max(image.size) <= 800
    assert len({record["width"] > record["height"] for record in coco.dataset["images"]}) == 2
    assert len({a["id"] for a in coco.dataset["annotations"]}) == len(coco.dataset["annotations"]) > SCENES
    for annotation in coco.dataset["annotations"]:
        record = coco.imgs[annotation["image_id"]]
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in annotation["segmentation"]])
        assert (points >= 0).all() and (points <= (record["width"], record["height"])).all()
        x, y, width, height = annotation["bbox"]
        # The box is the polygons' extent, so both are right or both wrong.
        assert np.allclose([x, y], points.min(0)) and np.allclose(
            [x + width, y + height], points.max(0), atol=0.02
        )
        assert annotation["iscrowd"] == 0 and annotation["caption"].strip()
        # pycocotools rasterises; its count agrees with the area up to the outline's pixels.
        outline_px = sum(
            np.abs(np.diff(np.reshape(p, (-1, 2)), axis=0)).sum() for p in annotation["segmentation"]
        )
        assert abs(coco.annToMask(annotation).sum() - annotation["area"]) <= outline_px + 8


def test_scenes_are_full_of_different_things() -> None:
    scenes = [render(11, index) for index in range(40)]
    kinds = [instance.category for scene in scenes for instance in scene.instances]
    assert set(kinds) == set(NAMES)
    assert 4 <= len(kinds) / 40 <= 7
    assert len({scene.ground for scene in scenes}) >= 8
    sides = [
        float(np.ptp(np.concatenate(i.polygons), axis=0).max()) for scene in scenes for i in scene.instances
    ]
    assert min(sides) < 40 and max(sides) > 200
    brightness = [float(np.asarray(scene.image).mean()) for scene in scenes]
    assert np.std(brightness) > 15


def test_objects_are_where_their_polygons_say() -> None:
    """Boxes that hold an object vary far more than the scene as a whole, of which most is ground."""
    ratios = []
    for index in range(12):
        scene = render(3, index)
        pixels = np.asarray(scene.image, dtype=np.float32)
        for instance in scene.instances:
            corners = np.concatenate(instance.polygons)
            low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
            inside = pixels[low[1] : high[1], low[0] : high[0]]
            ratios.append(inside.std((0, 1)).mean() / pixels.std((0, 1)).mean())
    assert np.median(ratios) > 1.15


def test_left_out_categories_do_not_occur() -> None:
    without = NAMES[:10]
    kinds = {instance.category for index in range(12) for instance in render(2, index, without).instances}
    assert kinds and not kinds & set(without)


def test_captions_vary_and_use_the_label_only_sometimes() -> None:
    pairs = [(i.category, i.caption) for index in range(30) for i in render(17, index).instances]
    labelled = np.mean([name in caption for name, caption in pairs])
    everyday = np.mean([CATEGORIES[name].plain in caption for name, caption in pairs])
    assert 0 < labelled < 0.3
    assert 0 < everyday < 0.5
    assert len({caption for _, caption in pairs}) > 0.7 * len(pairs)


def test_clipping_keeps_what_lies_in_the_frame() -> None:
    square = np.array([(-5.0, -5.0), (15.0, -5.0), (15.0, 15.0), (-5.0, 15.0)])
    assert area(square) == 400
    assert area(clip(square, 10, 8)) == 80  # the whole frame
    assert area(clip(square + np.array((10.0, 0.0)), 10, 30)) == 5 * 15  # x from 5 to 10, y from 0 to 15
    assert len(clip(square + np.array((100.0, 0.0)), 10, 10)) == 0


def test_hidden_objects_are_dropped() -> None:
    """Polygons drawn from the top down: every object shows at least the promised share.

    They overstate thin and see-through parts a little, hence the margin."""
    for index in range(12):
        scene = render(23, index)
        taken = np.zeros((scene.image.height, scene.image.width), dtype=bool)
        for instance in reversed(scene.instances):
            own = np.zeros_like(taken)
            for points in instance.polygons:
                canvas = Image.new("1", scene.image.size)
                ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points], fill=1)
                own |= np.asarray(canvas)
            assert (own & ~taken).sum() >= (MIN_VISIBLE - 0.12) * own.sum()
            taken |= own


def test_cutout_outline_agrees_with_its_pixels() -> None:
    pose = Pose(120.0, 0.7, 0.8, -1, 0.05, ((0.2, 0.3, 0.2),), (0.3, 0.2, 0.93), 0.0)
    cutout = Canvas([box(-0.5, -1, 0.5, 1)], pose, (200.0, 30.0, 30.0), np.random.default_rng(0)).finish({})
    alpha = np.asarray(cutout.alpha) / 255
    assert alpha.sum() == pytest.approx(area(cutout.polygons[0]), rel=0.03)
    rows, columns = np.nonzero(alpha > 0.5)
    centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) - np.array(cutout.alpha.size) / 2
    assert np.allclose(centre, cutout.polygons[0].mean(0), atol=1.5)


def test_progress_is_told_for_every_scene(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    generate(tmp_path, scenes=3, seed=0, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("bad", [{"scenes": 0}, {"scenes": 1_000_000}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(bad)))):
        generate(tmp_path, **({"scenes": 1, "seed": 0, "workers": 1} | bad))


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        generate(tmp_path / "file", scenes=1, seed=0, workers=1)


def test_stored_picture_is_the_rendered_one(sample: Path) -> None:
    scene = render(5, 3)
    stored = (sample / "images" / "000003.jpg").read_bytes()
    assert stored == scene.jpeg()
    with Image.open(io.BytesIO(stored)) as image:
        difference = np.abs(np.asarray(image, np.float32) - np.asarray(scene.image, np.float32)).mean()
    assert difference < 8  # what JPEG loses
