"""Records of strangers' weights that ask for the impossible: refused by name before anything is built, or harmless.

Every number in every record of every family is replaced by what a hostile or broken record may hold.
"""

import copy
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import save_file

from deponij.pipeline.backbones import access, as_batch, describe, limits, load
from deponij.store.errors import BackboneError, DeponijError, UsageError

RECORDS = ("config.json", "preprocessor_config.json", "open_clip_config.json")
HOSTILE: tuple[Any, ...] = (0, -1, 10**9, 1e308, float("nan"), "x", None, [], True)
MAX_S = 5.0
Place = tuple[str | int, ...]


def numbers(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where a record holds numbers."""
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(one, (*place, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place


def replaced(record: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(record)
    inner: Any = made
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return made


@pytest.fixture
def folder(request: pytest.FixtureRequest, shelf: tiny_models.Shelf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf[request.param], tmp_path / "model"))


def change(folder: Path, name: str, place: Place, value: Any) -> None:
    record = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(replaced(record, place, value)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("folder", tiny_models.MAKERS, indirect=True)
def test_every_number_of_every_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends in an error of ours within seconds of a processor, or the model works on a picture."""
    monkeypatch.setattr(access, "remembered", lambda topic, key, compute: compute())
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    n_refused = n_tried = 0
    for name in RECORDS:
        path = folder / name
        if not path.exists():
            continue
        text = path.read_text()
        record = json.loads(text)
        for place in numbers(record):
            for value in HOSTILE:
                path.write_text(json.dumps(replaced(record, place, value)))
                start, what = time.process_time(), f"{name} {place} = {value!r}"
                try:
                    backbone = load(str(folder))
                    backbone.embed_images(as_batch([backbone.description.transform.apply(image)]))
                except DeponijError:
                    n_refused += 1
                except Exception as error:
                    raise AssertionError(f"{what} ends in {error!r}") from error
                n_tried += 1
                assert time.process_time() - start < MAX_S, what
        path.write_text(text)
    print(f"{n_refused} of {n_tried} refused, the others work")
    assert n_refused > n_tried / 4


HUGE = [
    ("open_clip_vit", "open_clip_config.json", ("model_cfg", "vision_cfg", "image_size"), "input_px"),
    ("open_clip_vit", "open_clip_config.json", ("model_cfg", "vision_cfg", "layers"), "blocks"),
    ("open_clip_vit", "open_clip_config.json", ("model_cfg", "vision_cfg", "patch_size"), "patch_px"),
    ("open_clip_vit", "open_clip_config.json", ("model_cfg", "text_cfg", "vocab_size"), "words"),
    ("open_clip_vit", "open_clip_config.json", ("model_cfg", "text_cfg", "context_length"), "text_length"),
    ("open_clip_convnext", "open_clip_config.json", ("model_cfg", "embed_dim"), "width"),
    ("siglip", "config.json", ("vision_config", "image_size"), "input_px"),
    ("siglip", "config.json", ("text_config", "num_hidden_layers"), "blocks"),
    ("siglip", "config.json", ("vision_config", "num_attention_heads"), "heads"),
    ("siglip", "preprocessor_config.json", ("size", "height"), "input_px"),
    ("dinov2", "config.json", ("num_hidden_layers",), "blocks"),
    ("dinov2", "config.json", ("mlp_ratio",), "number"),
    ("dinov2_registers", "config.json", ("num_register_tokens",), "number"),
    ("dinov2", "preprocessor_config.json", ("crop_size", "width"), "input_px"),
    ("timm_vit", "config.json", ("pretrained_cfg", "input_size", 1), "input_px"),
    ("timm_vit", "config.json", ("num_classes",), "words"),
]


@pytest.mark.parametrize(("folder", "name", "place", "limit"), HUGE, indirect=["folder"])
def test_what_is_asked_for_and_the_limit_are_named(folder: Path, name: str, place: Place, limit: str) -> None:
    start = time.process_time()
    change(folder, name, place, 10**9)
    with pytest.raises(BackboneError, match=rf"1000000000; allowed: .* \(limit '{limit}'; DEPONIJ_LIMIT_"):
        describe(str(folder))
    assert time.process_time() - start < MAX_S


@pytest.mark.parametrize(
    ("name", "value"), [("depth", 10**7), ("embed_dim", 10**9), ("img_size", [10**9] * 2)]
)
def test_arguments_of_timm_models(shelf: tiny_models.Shelf, tmp_path: Path, name: str, value: Any) -> None:
    folder = Path(shutil.copytree(shelf["timm_vit"], tmp_path / "model"))
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | {"model_args": {name: value}}))
    with pytest.raises(BackboneError, match=rf"model_args.{name}: \d+; allowed: 1 to "):
        describe(str(folder))


STATISTICS = [
    ("open_clip_vit", "open_clip_config.json", ("preprocess_cfg", "std"), ("preprocess_cfg", "mean")),
    ("siglip", "preprocessor_config.json", ("image_std",), ("image_mean",)),
    ("dinov2", "preprocessor_config.json", ("image_std",), ("image_mean",)),
    ("timm_resnet", "config.json", ("pretrained_cfg", "std"), ("pretrained_cfg", "mean")),
]


@pytest.mark.parametrize(("folder", "name", "std", "mean"), STATISTICS, indirect=["folder"])
def test_means_and_deviations_are_finite_and_positive(
    folder: Path, name: str, std: Place, mean: Place
) -> None:
    text = (folder / name).read_text()
    for place, value in (
        ((*std, 0), 0.0),
        ((*std, 1), -0.5),
        ((*std, 1), 1e-300),
        ((*std, 2), float("inf")),
        ((*mean, 0), float("nan")),
        ((*mean, 2), 1e30),
        ((*mean, 1), "x"),
    ):
        (folder / name).write_text(text)
        change(folder, name, place, value)
        with pytest.raises(BackboneError, match="model|finite"):
            describe(str(folder))


@pytest.mark.parametrize(
    ("folder", "name", "place"),
    [
        ("open_clip_vit", "open_clip_config.json", ("model_cfg", "vision_cfg", "width")),
        ("siglip", "config.json", ("vision_config", "hidden_size")),
        ("dinov2", "config.json", ("mlp_ratio",)),
    ],
    indirect=["folder"],
)
def test_a_model_far_larger_than_its_weights_is_not_built(folder: Path, name: str, place: Place) -> None:
    """Every number is within its limit; together they ask for gigabytes that the file does not hold."""
    change(folder, name, place, 2**14 if place[-1] != "mlp_ratio" else 2**18)
    with pytest.raises(
        BackboneError, match=r"ask for a model of [\d,]+ numbers or more, the weights hold [\d,]+"
    ):
        load(str(folder))


@pytest.mark.parametrize("size", [[1 << 40], [1 << 20, 1 << 20]])
def test_a_header_that_lies_makes_no_room(shelf: tiny_models.Shelf, tmp_path: Path, size: list[int]) -> None:
    """A file holds no more numbers than bytes, whatever its header says."""
    folder = Path(shutil.copytree(shelf["open_clip_vit"], tmp_path / "model"))
    header = json.dumps({"x": {"dtype": "F32", "shape": size, "data_offsets": [0, 4]}}).encode()
    (folder / "open_clip_model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(4)
    )
    change(folder, "open_clip_config.json", ("model_cfg", "vision_cfg", "width"), 2**14)
    with pytest.raises(BackboneError, match=rf"the weights hold {len(header) + 12}$"):
        load(str(folder))


def test_a_limit_can_be_raised(
    shelf: tiny_models.Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(shelf["open_clip_convnext"], tmp_path / "model"))
    place: Place = ("model_cfg", "vision_cfg", "image_size")
    change(folder, "open_clip_config.json", place, 4096)
    with pytest.raises(BackboneError, match="DEPONIJ_LIMIT_INPUT_PX raises it"):
        describe(str(folder))
    monkeypatch.setenv("DEPONIJ_LIMIT_INPUT_PX", "4096")
    assert describe(str(folder)).input_px == (4096, 4096)
    monkeypatch.setenv("DEPONIJ_LIMIT_INPUT_PX", "many")
    with pytest.raises(UsageError, match="DEPONIJ_LIMIT_INPUT_PX='many'; a whole number"):
        limits.limit("input_px")


@pytest.mark.parametrize("part", ["../other.safetensors", 3, ["a"]])
def test_parts_of_weights_lie_beside_their_index(shelf: tiny_models.Shelf, tmp_path: Path, part: Any) -> None:
    folder = Path(shutil.copytree(shelf["dinov2"], tmp_path / "model"))
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": part}}))
    with pytest.raises(BackboneError, match="a file beside the index is needed|do not describe"):
        describe(str(folder))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
@pytest.mark.parametrize("folder", ["dinov2", "open_clip_vit", "timm_vit"], indirect=True)
def test_records_nested_without_end(folder: Path, text: str) -> None:
    for name in RECORDS:
        if (folder / name).exists():
            (folder / name).write_text(text)
    with pytest.raises(BackboneError):
        describe(str(folder))
