"""Folders that the families' own libraries wrote with their own save functions.

Expected values are the libraries' own, on the folder that they saved. What cannot be used is refused by its name.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from deponij.pipeline.backbones import as_batch, load
from deponij.store.errors import BackboneError

TOLERANCE = 1e-5
Pictures = dict[str, Image.Image]
PROCESSORS = ["SiglipImageProcessor", "SiglipImageProcessorPil"]


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load(str(folder))


def check(folder: Path, theirs: torch.Tensor, pictures: Sequence[Image.Image]) -> None:
    backbone = load(str(folder))
    ours = backbone.embed_images(as_batch([backbone.description.transform.apply(one) for one in pictures]))
    assert ours.shape == theirs.shape
    assert float(ours.std(dim=0).max()) > 1e-3, "the weights are such that pictures differ"
    # Of values above one relative: which kernels sum them, in which order, is the processor's business.
    assert float((ours - theirs).abs().max()) <= TOLERANCE * max(1.0, float(theirs.abs().max()))


# ------------------------------------------------------------------ timm


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "torch"])
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("test_vit", {"num_classes": 5}),
        ("test_vit", {"num_classes": 0}),
        ("test_vit", {"num_classes": 3, "global_pool": "avg", "img_size": 96}),
        ("test_convnext", {"num_classes": 5}),
        ("test_efficientnet", {"num_classes": 5}),
        ("test_resnet", {"num_classes": 5}),
        ("test_resnet", {"num_classes": 4, "global_pool": "max"}),
    ],
)
def test_timm(
    architecture: str, arguments: dict[str, Any], safe: bool, tmp_path: Path, pictures: Pictures
) -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    model = timm.create_model(architecture, pretrained=False, **arguments)
    tiny_models._stir(model, 0)
    timm.models.save_for_hf(model, tmp_path / "saved", safe_serialization=safe)
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True, num_classes=0).eval()
    transform = create_transform(**resolve_model_data_config(again))
    images = [one.convert("RGB") for one in pictures.values()]
    with torch.inference_mode():
        theirs = again(torch.stack([transform(one) for one in images]))
    check(tmp_path / "saved", theirs, images)


def test_timm_of_other_channels_is_refused_by_name(tmp_path: Path) -> None:
    import timm

    model = timm.create_model("test_vit", pretrained=False, in_chans=1)
    timm.models.save_for_hf(model, tmp_path / "grey", safe_serialization=True)
    refused(tmp_path / "grey", "input_size has 1 channels; only RGB models can be used")


# ------------------------------------------------------------------ open_clip


@pytest.mark.parametrize("maker", ["open_clip_vit", "open_clip_convnext"])
@pytest.mark.parametrize("safe", [True, False, "both"])
def test_open_clip(
    maker: str, safe: bool | str, shelf: tiny_models.Shelf, tmp_path: Path, pictures: Pictures
) -> None:
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf
    from open_clip.tokenizer import HFTokenizer

    record = json.loads((shelf[maker] / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.create_model(f"local-dir:{shelf[maker]}", require_pretrained=True)
    folder = tmp_path / "saved"
    save_for_hf(model, HFTokenizer(str(shelf["siglip"])), record, folder, safe_serialization=safe)
    again, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", require_pretrained=True
    )
    with torch.inference_mode():
        theirs = again.eval().encode_image(torch.stack([preprocess(one) for one in pictures.values()]))
        texts = again.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(list(tiny_models.TEXTS)))
    check(folder, theirs, list(pictures.values()))
    assert float((load(str(folder)).embed_texts(tiny_models.TEXTS) - texts).abs().max()) <= TOLERANCE


# ------------------------------------------------------------------ transformers


def upstream(folder: Path, pictures: Pictures) -> torch.Tensor:
    """`pooler_output` of the class that transformers itself takes for a folder."""
    from transformers import AutoImageProcessor, AutoModel

    model: Any = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tower = getattr(model, "vision_model", model)
    with torch.inference_mode():
        rows = [tower(**processor(one, return_tensors="pt")).pooler_output for one in pictures.values()]
    return torch.cat(rows)


def write_siglip(folder: Path, model: Any, source: Path, name: str, *, together: bool, **save: Any) -> None:
    """A model, its image processor and its tokenizer, the latter two alone or as one processor."""
    import transformers

    size = {"height": 32, "width": 32}
    images = getattr(transformers, name)(size=size)
    words = transformers.AutoTokenizer.from_pretrained(source)
    model.save_pretrained(folder, **save)
    if together:
        transformers.SiglipProcessor(images, words).save_pretrained(folder)
        return
    images.save_pretrained(folder)
    words.save_pretrained(folder)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("together", [False, True], ids=["apart", "one processor"])
@pytest.mark.parametrize("save", [{}, {"max_shard_size": "20KB"}], ids=["whole", "in parts"])
def test_siglip(
    processor: str,
    together: bool,
    save: dict[str, str],
    shelf: tiny_models.Shelf,
    tmp_path: Path,
    pictures: Pictures,
) -> None:
    from transformers import AutoTokenizer, SiglipModel

    source, folder = shelf["siglip"], tmp_path / "saved"
    model = SiglipModel.from_pretrained(source)
    write_siglip(folder, model, source, processor, together=together, **save)
    assert (folder / "processor_config.json").is_file() == together
    assert (folder / "model.safetensors.index.json").is_file() == bool(save)
    check(folder, upstream(folder, pictures), list(pictures.values()))
    tokens = AutoTokenizer.from_pretrained(folder)(
        list(tiny_models.TEXTS), padding="max_length", max_length=64, return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = model.eval().get_text_features(input_ids=tokens["input_ids"]).pooler_output
    assert float((load(str(folder)).embed_texts(tiny_models.TEXTS) - theirs).abs().max()) <= TOLERANCE


def test_a_processor_that_was_saved_whole_counts_before_one_alone(
    shelf: tiny_models.Shelf, tmp_path: Path, pictures: Pictures
) -> None:
    """As in transformers, where both lie in one folder."""
    from transformers import SiglipModel

    folder = tmp_path / "saved"
    model = SiglipModel.from_pretrained(shelf["siglip"])
    write_siglip(folder, model, shelf["siglip"], PROCESSORS[0], together=True)
    record = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    (folder / "preprocessor_config.json").write_text(json.dumps(record | {"image_mean": [0.1, 0.2, 0.3]}))
    assert load(str(folder)).description.transform.mean == (0.5, 0.5, 0.5)
    check(folder, upstream(folder, pictures), list(pictures.values()))


@pytest.mark.parametrize("with_words", [False, True])
def test_siglips_vision_tower_alone(
    with_words: bool, shelf: tiny_models.Shelf, tmp_path: Path, pictures: Pictures
) -> None:
    from transformers import SiglipImageProcessor, SiglipVisionModel

    folder = tmp_path / "saved"
    model = SiglipVisionModel.from_pretrained(shelf["siglip"])
    if with_words:
        write_siglip(folder, model, shelf["siglip"], PROCESSORS[0], together=False)
    else:
        model.save_pretrained(folder)
        SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    check(folder, upstream(folder, pictures), list(pictures.values()))
    backbone, whole = load(str(folder)), load(str(shelf["siglip"]))
    assert not backbone.description.has_text
    batch = as_batch([backbone.description.transform.apply(one) for one in pictures.values()])
    assert torch.equal(backbone.embed_images(batch), whole.embed_images(batch))
    assert torch.equal(backbone.dense(batch)[0].values, whole.dense(batch)[0].values)


def test_what_is_no_siglip_with_an_embedding_is_refused_by_name(
    shelf: tiny_models.Shelf, tmp_path: Path
) -> None:
    from transformers import SiglipConfig, SiglipForImageClassification

    config = SiglipConfig.from_pretrained(shelf["siglip"])
    model = SiglipForImageClassification(config)
    write_siglip(tmp_path / "saved", model, shelf["siglip"], PROCESSORS[0], together=False)
    refused(tmp_path / "saved", "saved from a SiglipForImageClassification; a SiglipModel is needed")


@pytest.mark.parametrize("maker", ["dinov2", "dinov2_registers"])
@pytest.mark.parametrize("processor", ["BitImageProcessor", "BitImageProcessorPil"])
@pytest.mark.parametrize("what", ["Model", "ForImageClassification"])
@pytest.mark.parametrize("save", [{}, {"max_shard_size": "10KB"}], ids=["whole", "in parts"])
def test_dinov2(
    maker: str,
    processor: str,
    what: str,
    save: dict[str, str],
    shelf: tiny_models.Shelf,
    tmp_path: Path,
    pictures: Pictures,
) -> None:
    import transformers

    family = {"dinov2": "Dinov2", "dinov2_registers": "Dinov2WithRegisters"}[maker]
    model = getattr(transformers, family + what).from_pretrained(shelf[maker])
    model.save_pretrained(tmp_path / "saved", **save)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    getattr(transformers, processor)(**sides).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors.index.json").is_file() == bool(save)
    check(tmp_path / "saved", upstream(tmp_path / "saved", pictures), list(pictures.values()))
