"""peft's folders as backbones: found, described, merged; damaged, foreign and dangerous ones refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from deponij.pipeline.backbones import adapters, describe, load, low_rank, sources
from deponij.pipeline.backbones.access import locate, resolved
from deponij.pipeline.backbones.catalog import entries, parse_spec
from deponij.pipeline.backbones.remember import sha256_of_value
from deponij.store.errors import BackboneError, UsageError

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def made(shelf: tiny_models.Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """peft's own folder of an adapter on the queries and values of a DINOv2."""
    from peft import LoraConfig, get_peft_model
    from transformers import Dinov2Model

    base = Dinov2Model.from_pretrained(shelf["dinov2"])
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    _move(model)
    folder = tmp_path_factory.mktemp("adapter") / "litter"
    model.save_pretrained(folder)
    edit(folder, base_model_name_or_path=str(shelf["dinov2"]))
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        rows = model.eval()(pixel_values=pixels).last_hidden_state[:, 0]
    save_file({"pixels": pixels, "rows": rows.contiguous()}, folder.parent / "wanted.safetensors")
    return folder


def _move(model: Any) -> None:
    made = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if ".lora_" in name:
                one.copy_(torch.randn(one.shape, generator=made) * 0.3)


def edit(folder: Path, **fields: Any) -> None:
    path = folder / adapters.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    shutil.copytree(made, tmp_path / "litter")
    return tmp_path / "litter"


def retensor(folder: Path, change: Any) -> None:
    path = folder / adapters.WEIGHTS
    save_file(change(load_file(path)), path)


def check_rows(spec: str, made: Path) -> None:
    wanted = load_file(made.parent / "wanted.safetensors")
    torch.testing.assert_close(
        load(spec).embed_images(wanted["pixels"]), wanted["rows"], rtol=1e-5, atol=1e-5
    )


def test_it_is_its_base_with_the_adapter_in_it(shelf: tiny_models.Shelf, made: Path) -> None:
    found, base = describe(str(made)), describe(str(shelf["dinov2"]))
    check_rows(str(made), made)
    assert (found.name, found.source, found.revision) == ("litter", "folder:litter", None)
    same = ("family", "architecture", "dim", "input_px", "transform", "n_blocks", "tokenizer_sha256")
    assert all(getattr(found, one) == getattr(base, one) for one in same)
    wanted = load_file(made.parent / "wanted.safetensors")
    apart = load(str(shelf["dinov2"])).embed_images(wanted["pixels"]) - wanted["rows"]
    assert apart.abs().max() > 0.1
    assert not [name for name, _ in load(str(made)).model.named_modules() if "lora" in name]


def test_its_hash_covers_base_adapter_and_scale(shelf: tiny_models.Shelf, made: Path, folder: Path) -> None:
    base = describe(str(shelf["dinov2"])).weights_sha256
    found = [describe(str(made)).weights_sha256]
    assert found[0] == sha256_of_value([base, _sha256(made / adapters.WEIGHTS), [4, 8, False, False]])
    edit(folder, lora_alpha=9)
    found.append(describe(str(folder)).weights_sha256)
    edit(folder, lora_alpha=8, peft_version="0.18", inference_mode=False)  # which change nothing
    assert describe(str(folder)).weights_sha256 == found[0]
    retensor(folder, lambda tensors: {name: one * 2 for name, one in tensors.items()})
    found.append(describe(str(folder)).weights_sha256)
    other = tiny_models.dinov2(folder.parent / "other", seed=5)
    edit(folder, base_model_name_or_path=str(other))
    found.append(describe(str(folder)).weights_sha256)
    assert len({base, *found}) == 5


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_base_may_be_written_as_seen_from_the_adapter(
    shelf: tiny_models.Shelf, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "tuned" / "adapter")
    shutil.copytree(shelf["dinov2"], tmp_path / "base")
    edit(tmp_path / "tuned" / "adapter", base_model_name_or_path="../../base")
    check_rows(str(tmp_path / "tuned" / "adapter"), made)


def test_a_base_of_the_hub_is_the_catalogs(folder: Path) -> None:
    dinov2 = entries()["dinov2-small"]
    edit(folder, base_model_name_or_path="facebook/dinov2-small")
    entry = parse_spec(str(folder))
    assert entry.base == dinov2 and entry.n_params == dinov2.n_params and entry.licence == dinov2.licence
    assert not sources.is_present(entry)
    with pytest.raises(
        BackboneError, match="dinov2-small: weights of facebook/dinov2-small.*not on this machine"
    ):
        describe(str(folder))
    edit(folder, revision="0" * 40)
    base = parse_spec(str(folder)).base
    assert base is not None and (base.repo, base.revision) == ("facebook/dinov2-small", "0" * 40)
    edit(folder, base_model_name_or_path="dinov2-small", revision=None)
    assert parse_spec(str(folder)).base == dinov2
    edit(folder, base_model_name_or_path="open_clip:ViT-B-32/openai")
    base = resolved(parse_spec(str(folder))).base
    assert base is not None and base.tag is None and base.repo is not None


def test_an_adapter_of_a_classifier_and_of_transformers_4(
    shelf: tiny_models.Shelf, made: Path, folder: Path
) -> None:
    """Names as in published adapters: the model inside a classifier, which is saved too, and older attention."""

    def older(tensors: Tensors) -> Tensors:
        former = (("q_proj", "attention.query"), ("v_proj", "attention.value"))
        found = {}
        for own, one in tensors.items():
            name = own
            for new, old in (*former, ("base_model.model.", "base_model.model.dinov2.")):
                name = name.replace(new, old)
            found[name] = one
        return found | {"base_model.model.classifier.weight": torch.zeros(3, 64)}

    retensor(folder, older)
    edit(folder, target_modules=["query", "value"], modules_to_save=["classifier"])
    check_rows(str(folder), made)


def test_a_head_that_is_the_bases_own_is_not_left_out(
    shelf: tiny_models.Shelf, made: Path, folder: Path
) -> None:
    from transformers import SiglipVisionModel

    base = folder.parent / "base"
    SiglipVisionModel.from_pretrained(shelf["siglip"]).save_pretrained(base)
    shutil.copy(shelf["siglip"] / "preprocessor_config.json", base)
    shapes = {"lora_A": (4, 32), "lora_B": (32, 4)}
    own = [name for name, _ in load(str(base)).model.named_modules() if name.endswith(("q_proj", "v_proj"))]
    tensors = {
        f"base_model.model.{name}.{kind}.weight": torch.ones(shape)
        for name in own
        for kind, shape in shapes.items()
    }
    edit(folder, base_model_name_or_path=str(base))
    retensor(folder, lambda _: tensors)
    load(str(folder))
    probe = next(name for name, _ in load(str(base)).model.named_parameters() if name.endswith("head.probe"))
    retensor(folder, lambda _: tensors | {f"base_model.model.{probe}": torch.zeros(1, 1, 32)})
    with pytest.raises(BackboneError, match=f"1 unexpected: {probe}"):
        load(str(folder))


def test_half_precision_and_other_sizes(made: Path, folder: Path) -> None:
    retensor(folder, lambda tensors: {name: one.half() for name, one in tensors.items()})
    found = load(str(folder), input_px=(42, 56))
    assert found.embed_images(torch.zeros(1, 3, 42, 56)).dtype == torch.float32
    assert {one.dtype for one in found.model.parameters()} == {torch.float32}


def one_less(tensors: Tensors) -> Tensors:
    return dict(list(tensors.items())[1:])


def a_block_less(tensors: Tensors) -> Tensors:
    return {name: one for name, one in tensors.items() if "layer.1." not in name}


def renamed(tensors: Tensors) -> Tensors:
    return {name.replace("layer.1.", "layer.7."): one for name, one in tensors.items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (one_less, "1 missing"),
        (a_block_less, "4 missing"),
        (renamed, "does not fit its base .*/dinov2: its encoder.layer.7"),
        (lambda tensors: tensors | {"base_model.model.extra": torch.zeros(2)}, "1 unexpected: extra"),
        (lambda tensors: tensors | {"base_model.model.layernorm.weight": torch.zeros(32)}, "1 unexpected"),
        (lambda tensors: {name: one.T for name, one in tensors.items()}, "not of the rank"),
        (lambda tensors: {name: one[:, :4] for name, one in tensors.items()}, "wrong shape"),
        (lambda tensors: {name: one * torch.nan for name, one in tensors.items()}, "not all finite"),
        (lambda tensors: {"base_model.model.x": torch.zeros(1)}, "no low-rank weights"),
    ],
)
def test_damaged_and_foreign_weights_are_refused(folder: Path, change: Any, told: str) -> None:
    retensor(folder, lambda tensors: {name: one.contiguous() for name, one in change(tensors).items()})
    with pytest.raises(BackboneError, match=told):
        load(str(folder))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"r": 0}, "rank of 1 or more"),
        ({"r": 8}, "not of the rank that its record says, 8"),
        ({"r": 10**9}, "r"),
        ({"r": "4"}, "r"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"target_modules": None}, "target_modules is None"),
        ({"target_modules": ["q_proj", 3]}, "target_modules"),
        ({"target_modules": "("}, "target_modules"),
        ({"target_modules": ["q_proj", "k_proj", "v_proj"]}, "6 missing"),
        ({"base_model_name_or_path": None}, "base's name is needed"),
        ({"revision": 3}, "base's name is needed"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config"),
        ({"something_new": True}, "something_new is True"),
        ({"use_dora": True}, "6 missing.*magnitude"),
    ],
)
def test_records_that_ask_for_more_are_refused(folder: Path, fields: dict[str, Any], told: str) -> None:
    edit(folder, **fields)
    with pytest.raises(BackboneError, match=told):
        load(str(folder))


def test_another_base_is_no_base_of_it(shelf: tiny_models.Shelf, made: Path, folder: Path) -> None:
    edit(folder, base_model_name_or_path=str(shelf["timm_vit"]))
    with pytest.raises(BackboneError, match="does not fit its base .*/timm_vit"):
        load(str(folder))
    path = folder / adapters.WEIGHTS
    base = describe(str(shelf["dinov2"])).weights_sha256
    save_file(load_file(path), path, metadata={low_rank.BASE_SHA256: base})
    edit(folder, base_model_name_or_path=str(shelf["dinov2"]))
    check_rows(str(folder), made)
    edit(folder, base_model_name_or_path=str(tiny_models.dinov2(folder.parent / "other", seed=5)))
    with pytest.raises(BackboneError, match="learned on other weights than its base .*/other has now"):
        load(str(folder))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}"])
def test_broken_files_are_refused(folder: Path, content: bytes) -> None:
    for name in (adapters.WEIGHTS, adapters.CONFIG):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(BackboneError):
            load(str(folder))
        (folder / name).write_bytes(kept)


def test_pickled_adapters_are_not_opened(folder: Path) -> None:
    torch.save(load_file(folder / adapters.WEIGHTS), folder / "adapter_model.bin")
    (folder / adapters.WEIGHTS).unlink()
    for asked in (describe, load):
        with pytest.raises(BackboneError, match="adapter_model.bin is pickled and is not opened"):
            asked(str(folder))
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(BackboneError, match=f"no {adapters.WEIGHTS}: restore it"):
        describe(str(folder))


def test_bases_that_are_adapters_or_nothing(folder: Path, tmp_path: Path) -> None:
    for base in (str(folder), ".", str(shutil.copytree(folder, tmp_path / "another"))):
        edit(folder, base_model_name_or_path=base)
        with pytest.raises(BackboneError, match="is an adapter too"):
            describe(str(folder))
    edit(folder, base_model_name_or_path="/nowhere/at/all")
    with pytest.raises(BackboneError, match="does not exist"):
        describe(str(folder))
    edit(folder, base_model_name_or_path="dinov2-smal")
    with pytest.raises(UsageError, match="dinov2-small"):
        describe(str(folder))


def test_the_files_of_its_location(shelf: tiny_models.Shelf, made: Path) -> None:
    """Whatever changes one of them, the description is read anew."""
    files = locate(str(made)).files
    assert {made / adapters.CONFIG, made / adapters.WEIGHTS, shelf["dinov2"] / "model.safetensors"} <= set(
        files
    )
