"""Weights that must be refused are refused, with a message that names what is wrong."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from deponij.pipeline.backbones import describe, load, weights
from deponij.store.errors import BackboneError, DeponijError

WEIGHTS = {
    "open_clip_vit": "open_clip_model.safetensors",
    "siglip": "model.safetensors",
    "dinov2": "model.safetensors",
    "timm_vit": "model.safetensors",
}
ONE_TENSOR = {
    "open_clip_vit": "visual.ln_post.weight",
    "siglip": "vision_model.post_layernorm.weight",
    "dinov2": "layernorm.weight",
    "timm_vit": "norm.weight",
}
PICKLED = {
    "open_clip_vit": "open_clip_pytorch_model.bin",
    "siglip": "pytorch_model.bin",
    "dinov2": "pytorch_model.bin",
    "timm_vit": "pytorch_model.bin",
}
MAKERS = sorted(WEIGHTS)


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(maker: str, shelf: tiny_models.Shelf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf[maker], tmp_path / "model"))


def tensors_of(folder: Path, maker: str) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS[maker])


def save(tensors: dict[str, torch.Tensor], folder: Path, maker: str) -> None:
    save_file(tensors, folder / WEIGHTS[maker], metadata={"format": "pt"})


def test_missing_tensor(folder: Path, maker: str) -> None:
    tensors = tensors_of(folder, maker)
    del tensors[ONE_TENSOR[maker]]
    save(tensors, folder, maker)
    with pytest.raises(BackboneError, match=f"do not fill the model exactly; 1 missing: {ONE_TENSOR[maker]}"):
        load(str(folder))


def test_unexpected_tensor(folder: Path, maker: str) -> None:
    save(tensors_of(folder, maker) | {"surplus.weight": torch.zeros(3)}, folder, maker)
    with pytest.raises(BackboneError, match=r"1 unexpected: surplus\.weight"):
        load(str(folder))


def test_wrong_shape(folder: Path, maker: str) -> None:
    tensors = tensors_of(folder, maker)
    tensors[ONE_TENSOR[maker]] = torch.zeros(7)
    save(tensors, folder, maker)
    with pytest.raises(BackboneError, match=f"1 wrong shape: {ONE_TENSOR[maker]}"):
        load(str(folder))


def test_old_position_buffers_are_harmless(folder: Path, maker: str) -> None:
    save(tensors_of(folder, maker) | {"embeddings.position_ids": torch.arange(4)[None]}, folder, maker)
    load(str(folder))


class Bomb:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_code_in_a_pickle_is_never_run(folder: Path, maker: str, way: str, tmp_path: Path) -> None:
    tensors: dict[str, object] = {**tensors_of(folder, maker), "bomb": Bomb(tmp_path / "exploded")}
    (folder / WEIGHTS[maker]).unlink()
    if way == "torch":
        torch.save(tensors, folder / PICKLED[maker])
    else:
        (folder / PICKLED[maker]).write_bytes(pickle.dumps(tensors))
    with pytest.raises(BackboneError, match="code is never unpickled"):
        load(str(folder))
    assert not (tmp_path / "exploded").exists()


def test_plain_torch_file_gives_the_same_model(folder: Path, maker: str, pictures: dict) -> None:  # type: ignore[type-arg]
    """Half precision in a PyTorch file: loaded in float32, equal to the rounded weights."""
    rounded = {
        name: tensor.half().float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors_of(folder, maker).items()
    }
    save(rounded, folder, maker)
    image = pictures["portrait"]
    first = load(str(folder))
    batch = torch.from_numpy(first.description.transform.apply(image))[None]
    expected = first.embed_images(batch)
    (folder / WEIGHTS[maker]).unlink()
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in rounded.items()
    }
    torch.save(halves, folder / PICKLED[maker])
    second = load(str(folder))
    assert {tensor.dtype for tensor in second.model.parameters()} == {torch.float32}
    assert torch.equal(second.embed_images(batch), expected)


@pytest.mark.parametrize("maker", ["siglip", "dinov2"])
def test_half_precision_checkpoints_become_float32(folder: Path, maker: str) -> None:
    """A transformers folder that says float16 would be loaded as float16 if nobody asked otherwise."""
    halves = {name: tensor.half() for name, tensor in tensors_of(folder, maker).items()}
    save(halves, folder, maker)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16", "torch_dtype": "float16"}))
    model = load(str(folder)).model
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_timm_positions_lie_at_the_size_of_the_record(folder_of_size_96: Path, pictures: dict) -> None:  # type: ignore[type-arg]
    """The architecture's own size is 160 px; a checkpoint trained at 96 px has a smaller grid."""
    backbone = load(str(folder_of_size_96))
    assert backbone.description.input_px == (96, 96)
    batch = torch.from_numpy(backbone.description.transform.apply(pictures["odd"]))[None]
    assert backbone.dense(batch)[0].values.shape[2:] == (6, 6)
    assert backbone.model.pos_embed.shape[1] == 1 + 6 * 6


@pytest.fixture
def folder_of_size_96(shelf: tiny_models.Shelf, tmp_path: Path) -> Path:
    import timm

    folder = Path(shutil.copytree(shelf["timm_vit"], tmp_path / "model"))
    record = json.loads((folder / "config.json").read_text())
    record["pretrained_cfg"]["input_size"] = [3, 96, 96]
    (folder / "config.json").write_text(json.dumps(record))
    model = timm.create_model("test_vit", pretrained=False, num_classes=5, img_size=96)
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def test_damaged_safetensors(folder: Path, maker: str) -> None:
    path = folder / WEIGHTS[maker]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BackboneError, match="not a readable safetensors file"):
        load(str(folder))


def test_split_weights(shelf: tiny_models.Shelf, tmp_path: Path, pictures: dict) -> None:  # type: ignore[type-arg]
    """A checkpoint in parts with an index gives the same embedding, and needs every part."""
    whole = load(str(shelf["dinov2"]))
    folder = Path(shutil.copytree(shelf["dinov2"], tmp_path / "split"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    split = load(str(folder))
    batch = torch.from_numpy(whole.description.transform.apply(pictures["odd"]))[None]
    assert torch.equal(split.embed_images(batch), whole.embed_images(batch))
    assert describe(str(folder)).weights_sha256 != describe(str(shelf["dinov2"])).weights_sha256
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BackboneError, match="parts of the weights are missing: model-00002"):
        load(str(folder))


def test_old_dinov2_names_are_translated(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    """facebook/dinov2-base was saved before transformers renamed its layers; its names must still load."""
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(shelf["dinov2"])
    folder = tmp_path / "old"
    model.save_pretrained(folder, save_original_format=True)
    shutil.copy(shelf["dinov2"] / "preprocessor_config.json", folder)
    old = load_file(folder / "model.safetensors")
    assert any(".attention.attention.query." in name or ".q_proj." in name for name in old)
    loaded = load(str(folder)).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor)


def test_weights_file_with_an_architecture(tmp_path: Path) -> None:
    """`open_clip:ARCH/FILE`: the configuration is the library's own, the file is the user's."""
    with pytest.raises(BackboneError, match=r"weights file .*absent\.pt does not exist"):
        describe(f"open_clip:ViT-B-32/{tmp_path / 'absent.pt'}")
    path = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    told = describe(f"open_clip:ViT-B-32/{path}")
    assert (told.dim, told.input_px, told.patch_px, told.n_blocks) == (512, (224, 224), 32, 12)
    assert (told.name, told.source) == ("ViT-B-32-mine", "file:mine.safetensors")


def test_choice_of_files() -> None:
    split = [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert weights.choose([*split, "pytorch_model.bin"], weights.HF_WEIGHTS) == split
    assert weights.choose(["pytorch_model.bin", "model.safetensors"], weights.HF_WEIGHTS) == [
        "model.safetensors"
    ]
    assert weights.choose(["flax_model.msgpack"], weights.HF_WEIGHTS) == []


def test_damaged_config(folder: Path) -> None:
    for record in folder.glob("*config.json"):
        record.write_text("{not json")
    with pytest.raises(BackboneError, match=r"not valid JSON|no backbone family knows"):
        describe(str(folder))


@pytest.mark.parametrize(
    ("maker", "name", "text"),
    [
        ("siglip", "tokenizer_config.json", "[not json"),
        ("siglip", "config.json", '{"model_type": "siglip", "vision_config": [1]}'),
        ("dinov2", "config.json", '{"model_type": "dinov2", "hidden_size": "wide"}'),
        ("dinov2", "config.json", '{"model_type": "dinov2", "hidden_act": "nonsense"}'),
        (
            "open_clip_vit",
            "open_clip_config.json",
            '{"model_cfg": {"embed_dim": 3, "vision_cfg": 1, "text_cfg": 2}}',
        ),
        ("open_clip_vit", "open_clip_config.json", "{}"),
        ("timm_vit", "config.json", '{"architecture": "test_vitt", "pretrained_cfg": {}}'),
        ("timm_vit", "config.json", '{"architecture": "test_vit", "pretrained_cfg": {"input_size": 3}}'),
        (
            "timm_vit",
            "config.json",
            '{"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {"no": 1}}',
        ),
    ],
)
def test_records_that_make_no_sense(
    shelf: tiny_models.Shelf, tmp_path: Path, maker: str, name: str, text: str
) -> None:
    folder = Path(shutil.copytree(shelf[maker], tmp_path / "model"))
    (folder / name).write_text(text)
    with pytest.raises(DeponijError) as caught:
        load(str(folder))
    assert "model" in str(caught.value)  # the backbone's own name, here the folder's


def test_siglip_needs_its_tokenizer(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shelf["siglip"], tmp_path / "model"))
    for name in ("tokenizer.json", "spiece.model", "tokenizer.model"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(BackboneError, match=r"lacks tokenizer\.json or spiece\.model"):
        describe(str(folder))
