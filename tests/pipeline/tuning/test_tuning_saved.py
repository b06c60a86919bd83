"""What was tuned as a folder: the same embeddings by this library, by the family's own and by peft alone."""

import errno
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from tuning_world import OTHER_PX, by_lora, learned, pixels_for, tower_of

from deponij.pipeline.backbones import adapters, describe, load
from deponij.pipeline.tuning import saved
from deponij.pipeline.tuning.learning import LearningParams
from deponij.pipeline.tuning.lora import Role
from deponij.pipeline.tuning.saved import read_tuned, save_tuned
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import BackboneError, StoreError

RECORD = {"epochs": 3, "labels": ["a", "b"]}


def written(shelf: tiny_models.Shelf, name: str, folder: Path, params: LearningParams) -> Tower:
    tower = learned(tower_of(shelf, name, params))
    save_tuned(folder, tower, str(shelf[name]), RECORD)
    return tower


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("way", ["lora", "full"])
@pytest.mark.parametrize("name", tiny_models.MAKERS)
def test_the_folder_is_the_tower(
    shelf: tiny_models.Shelf, tmp_path: Path, name: str, way: str, resized: bool
) -> None:
    params = by_lora() if way == "lora" else LearningParams(way="full")
    input_px = OTHER_PX[name] if resized else None
    tower = learned(tower_of(shelf, name, params, input_px))
    pixels = pixels_for(tower.backbone)
    wanted = tower(pixels).detach()
    base = load(str(shelf[name]), input_px=input_px)
    assert (wanted - base.embed_images(pixels)).abs().max() > 0.1  # it has learned something
    told = save_tuned(tmp_path / "tuned", tower, str(shelf[name]), RECORD)
    found = load(str(tmp_path / "tuned"))
    close(found.embed_images(pixels), wanted)
    assert found.description.weights_sha256 == told.weights_sha256 != base.description.weights_sha256
    assert found.description.input_px == base.description.input_px
    picture = tiny_models.pictures()["large"]
    assert (found.description.transform.apply(picture) == base.description.transform.apply(picture)).all()
    if base.description.has_text:
        assert torch.equal(found.embed_texts(tiny_models.TEXTS), base.embed_texts(tiny_models.TEXTS))
        assert found.description.tokenizer_sha256 == base.description.tokenizer_sha256
    assert (tmp_path / "tuned" / "adapter").is_dir() is (way == "lora")
    if way == "lora":
        close(load(str(tmp_path / "tuned" / "adapter"), input_px=input_px).embed_images(pixels), wanted)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """1e-5 of the largest number."""
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize(("name", "role"), [("dinov2", "all"), ("timm_resnet", "pointwise")])
def test_dora_is_merged_too(shelf: tiny_models.Shelf, tmp_path: Path, name: str, role: Role) -> None:
    tower = written(shelf, name, tmp_path / "tuned", by_lora(role, dora=True))
    pixels = pixels_for(tower.backbone)
    close(load(str(tmp_path / "tuned")).embed_images(pixels), tower(pixels).detach())
    close(load(str(tmp_path / "tuned" / "adapter")).embed_images(pixels), tower(pixels).detach())


def test_its_library_opens_the_folder(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    import open_clip
    import timm
    from transformers import AutoModel

    for name in ("dinov2", "siglip", "open_clip_vit", "timm_vit", "timm_resnet"):
        tower = written(shelf, name, tmp_path / name, by_lora())
        pixels, folder = pixels_for(tower.backbone), tmp_path / name
        with torch.inference_mode():
            if name == "dinov2":
                rows = AutoModel.from_pretrained(folder).eval()(pixels).last_hidden_state[:, 0]
            elif name == "siglip":
                rows = AutoModel.from_pretrained(folder).eval().get_image_features(pixels).pooler_output
            elif name == "open_clip_vit":
                model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
                rows = model.eval().encode_image(pixels)
            else:
                rows = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(pixels)
        close(rows, tower(pixels).detach())


SCRIPT = """
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel
base, adapter, pixels, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).eval()
with torch.inference_mode():
    x = load_file(pixels)["x"]
    if hasattr(model, "get_image_features"):
        y = model.get_image_features(x).pooler_output
    else:
        y = model(x).last_hidden_state[:, 0]
save_file({"y": y.contiguous()}, out)
assert not any(name.split(".")[0] == "deponij" for name in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2", "siglip"])
def test_a_plain_script_opens_the_adapter(shelf: tiny_models.Shelf, tmp_path: Path, name: str) -> None:
    tower = written(shelf, name, tmp_path / "tuned", by_lora())
    pixels = pixels_for(tower.backbone)
    save_file({"x": pixels}, tmp_path / "x.safetensors")
    arguments = [
        shelf[name],
        tmp_path / "tuned" / "adapter",
        tmp_path / "x.safetensors",
        tmp_path / "y.safetensors",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "missing" not in ran.stderr.lower(), ran.stderr
    close(load_file(tmp_path / "y.safetensors")["y"], tower(pixels).detach())


def test_the_record_says_what_it_is_and_guards_the_files(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    written(shelf, "dinov2", folder, by_lora())
    body, base = read_tuned(folder), describe(str(shelf["dinov2"]))
    assert body["tuned"] == RECORD and body["base"]["weights_sha256"] == base.weights_sha256
    assert body["weights_sha256"] == describe(str(folder)).weights_sha256
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*body["files"], "tuned.json"} and "adapter/adapter_model.safetensors" in on_disk
    assert not {"README.md", "_files.json"} & on_disk
    for name in (*body["files"], "tuned.json"):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-4] + bytes([content[-4] ^ 1]) + content[-3:])
        with pytest.raises(StoreError, match="damaged"):
            read_tuned(folder)
        path.write_bytes(content)
    read_tuned(folder)
    (folder / "config.json").unlink()
    with pytest.raises(StoreError, match="cannot read"):
        read_tuned(folder)


def test_the_same_weights_give_the_same_bytes(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    for name in ("one", "other"):
        written(shelf, "siglip", tmp_path / name, by_lora())
    one, other = (tmp_path / name for name in ("one", "other"))
    for path in sorted(one.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path


def test_an_earlier_one_is_replaced_and_other_folders_are_not(
    shelf: tiny_models.Shelf, tmp_path: Path
) -> None:
    folder = tmp_path / "tuned"
    written(shelf, "dinov2", folder, by_lora())
    written(shelf, "timm_resnet", folder, LearningParams(way="norms"))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tuned.json"}
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="holds other files"):
        written(shelf, "dinov2", tmp_path / "else", by_lora())


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Longer files cannot be written, as on a full disk."""
    import signal

    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["dinov2", "timm_vit"])
def test_a_full_disk_leaves_the_former_folder(shelf: tiny_models.Shelf, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tuned"
    written(shelf, name, folder, by_lora())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = learned(tower_of(shelf, name, LearningParams(way="full")))
    with files_of_at_most(20_000), pytest.raises(StoreError, match="cannot write"):
        save_tuned(folder, other, str(shelf[name]), RECORD)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


@pytest.mark.parametrize("place", ["write_backbone", "sealed"])
def test_whatever_fails_leaves_the_former_folder(
    shelf: tiny_models.Shelf, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tuned"
    written(shelf, "dinov2", folder, by_lora())
    before = (folder / "tuned.json").read_bytes()

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved, place, fails)
    with pytest.raises(StoreError, match="No space left"):
        written(shelf, "dinov2", folder, LearningParams(way="full"))
    assert (folder / "tuned.json").read_bytes() == before and (folder / "adapter").is_dir()
    read_tuned(folder)


def test_another_base_is_refused(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    tower = learned(tower_of(shelf, "dinov2", by_lora()))
    other = tiny_models.dinov2(tmp_path / "other", seed=9)
    with pytest.raises(BackboneError, match="are not those that dinov2 was made of"):
        save_tuned(tmp_path / "tuned", tower, str(other), RECORD)
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("spec", ["mini-openclip", "efficientnet-lite0"])
def test_bases_inside_packages(tmp_path: Path, spec: str) -> None:
    from deponij.pipeline.tuning.learning import let_learn

    tower = Tower(load(spec))
    let_learn(tower, by_lora("all"))
    learned(tower)
    pixels = pixels_for(tower.backbone, 1)
    save_tuned(tmp_path / "tuned", tower, spec, RECORD)
    record = json.loads((tmp_path / "tuned" / "adapter" / adapters.CONFIG).read_text())
    assert record["base_model_name_or_path"] == spec
    for folder in (tmp_path / "tuned", tmp_path / "tuned" / "adapter"):
        close(load(str(folder)).embed_images(pixels), tower(pixels).detach())
    assert not (tmp_path / "tuned" / "made.json").exists()
