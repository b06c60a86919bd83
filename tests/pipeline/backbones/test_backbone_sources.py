"""What users write for a backbone, where its files are looked for, and what they are told when absent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from deponij.pipeline.backbones import describe, list_backbones, load, parse_spec, registry, sources
from deponij.pipeline.backbones.catalog import Entry, entries
from deponij.store.errors import BackboneError, UsageError

ROOT = Path(__file__).resolve().parents[3]
COMMIT = "f9e44c814b77203eaa57a6bdbbd535f21ede1415"


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_snapshot(folder: Path, repo: str, commit: str, main: bool = False) -> Path:
    """Lay a model out as the Hugging Face cache does."""
    base = sources.repo_folder(repo)
    shutil.copytree(folder, base / "snapshots" / commit)
    if main:
        (base / "refs").mkdir()
        (base / "refs" / "main").write_text(commit)
    return base / "snapshots" / commit


def python(script: str, env: dict[str, str]) -> str:
    """Standard error of a fresh interpreter that runs `script`; empty when it ended well."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def test_catalog_is_sound() -> None:
    known = entries()
    assert {"mini-openclip", "mini-siglip", "mini-dinov2", "openclip-vit-b-16", "dinov2-base"} <= known.keys()
    for entry in known.values():
        assert entry.family in registry.families()
        assert [entry.repo, entry.package_folder, entry.packaged].count(None) == 2
        assert entry.name == entry.name.lower()
        if not entry.package_folder:
            assert entry.dim and entry.input_px and entry.has_text is not None and entry.licence
        if entry.revision:
            assert len(entry.revision) == 40 and set(entry.revision) <= set("0123456789abcdef")


def test_specs(tmp_path: Path) -> None:
    assert parse_spec("dinov2-base").revision == COMMIT
    assert parse_spec("timm:resnet50.a1_in1k").repo == "timm/resnet50.a1_in1k"
    hub = parse_spec(f"hf:facebook/dinov2-base@{COMMIT}")
    assert (hub.repo, hub.revision, hub.family, hub.name) == (
        "facebook/dinov2-base",
        COMMIT,
        None,
        "dinov2-base",
    )
    assert parse_spec("hf:facebook/dinov2-base").revision is None
    tagged = parse_spec("open_clip:ViT-B-16/datacomp_xl_s13b_b90k")
    assert (tagged.architecture, tagged.tag) == ("ViT-B-16", "datacomp_xl_s13b_b90k")
    by_file = parse_spec("open_clip:ViT-B-16//models/mine.pt")
    assert (by_file.architecture, by_file.weights_file) == ("ViT-B-16", Path("/models/mine.pt"))
    assert parse_spec(str(tmp_path)) == Entry(name=tmp_path.name, folder=tmp_path.resolve())


@pytest.mark.parametrize("spec", ["hf:", "hf:only-a-name", "open_clip:ViT-B-16", "timm:a/b", "hf:a/b/c"])
def test_half_specs_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"nothing after|needs"):
        parse_spec(spec)


def test_unknown_names_show_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"unknown backbone 'dinov2-bse'\. Did you mean 'dinov2-base'\?.*siglip-base-16"
    ):
        describe("dinov2-bse")
    with pytest.raises(BackboneError, match="does not exist"):
        describe("./no/such/folder")
    with pytest.raises(UsageError, match=r"open_clip architecture 'ViT-B-l6'\. Did you mean 'ViT-B-16'"):
        describe("open_clip:ViT-B-l6/openai")


def test_absent_weights_say_what_to_do(own_hub_cache: Path) -> None:
    for use in (describe, load):
        with pytest.raises(BackboneError) as caught:
            use("dinov2-base")
        message = str(caught.value)
        for part in (
            "HF_HUB_OFFLINE is set",
            "config.json; preprocessor_config.json or processor_config.json; model.safetensors or ",
            "deponij weights fetch dinov2-base",
            str(own_hub_cache / "models--facebook--dinov2-base" / "snapshots" / COMMIT),
            str(sources.manual_folder("dinov2-base")),
            "any folder",
        ):
            assert part in message
    with pytest.raises(BackboneError, match=f"weights fetch hf:my/model@{COMMIT}"):
        describe(f"hf:my/model@{COMMIT}")


def test_partly_there_names_only_what_is_missing(shelf: tiny_models.Shelf) -> None:
    snapshot = put_snapshot(shelf["dinov2"], "facebook/dinov2-base", COMMIT)
    (snapshot / "preprocessor_config.json").unlink()
    with pytest.raises(
        BackboneError, match=r"Missing: preprocessor_config\.json or processor_config\.json\.\n"
    ):
        describe("dinov2-base")


def test_snapshot_of_the_pinned_commit(shelf: tiny_models.Shelf) -> None:
    put_snapshot(shelf["dinov2"], "facebook/dinov2-base", COMMIT)
    told = describe("dinov2-base")
    assert (told.name, told.source, told.revision) == ("dinov2-base", "hf:facebook/dinov2-base", COMMIT)
    assert told.weights_sha256 == describe(str(shelf["dinov2"])).weights_sha256
    assert describe(f"hf:facebook/dinov2-base@{COMMIT}").family == "dinov2"
    (listed,) = (one for one in list_backbones() if one["name"] == "dinov2-base")
    assert listed["present"]


def test_another_commit_is_not_the_pinned_one(shelf: tiny_models.Shelf) -> None:
    put_snapshot(shelf["dinov2"], "facebook/dinov2-base", "a" * 40, main=True)
    with pytest.raises(BackboneError, match="not on this machine"):
        describe("dinov2-base")


def test_without_a_revision_the_pin_goes_before_main(shelf: tiny_models.Shelf) -> None:
    repo = str(entries()["convnext-base-w-320"].repo)
    put_snapshot(shelf["open_clip_convnext"], repo, "b" * 40, main=True)
    assert describe("convnext-base-w-320").revision == "b" * 40
    sources.pin(repo, "c" * 40)
    with pytest.raises(BackboneError, match="not on this machine"):
        describe("convnext-base-w-320")
    shutil.copytree(shelf["open_clip_convnext"], sources.repo_folder(repo) / "snapshots" / ("c" * 40))
    assert describe("convnext-base-w-320").revision == "c" * 40


def test_files_put_by_hand_are_found_under_the_name(shelf: tiny_models.Shelf) -> None:
    shutil.copytree(shelf["dinov2"], sources.manual_folder("dinov2-base"))
    told = describe("dinov2-base")
    assert (told.name, told.revision) == ("dinov2-base", None)


def test_folder_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BackboneError, match=r"no backbone family knows these files \(found: config\.json\)"):
        describe(str(tmp_path))
    lonely = tmp_path / "weights.bin"
    lonely.write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        describe(str(lonely))


def test_open_clip_tags_lead_to_their_repository(shelf: tiny_models.Shelf) -> None:
    """The repository of a tag is open_clip's own table's; its folder is then read as any other."""
    with pytest.raises(
        BackboneError, match=r"laion/CLIP-ViT-B-16-DataComp\.XL-s13B-b90K are not on this machine"
    ):
        describe("open_clip:ViT-B-16/datacomp_xl_s13b_b90k")
    put_snapshot(shelf["open_clip_vit"], "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "d" * 40, main=True)
    told = describe("open_clip:ViT-B-16/datacomp_xl_s13b_b90k")
    assert (told.name, told.revision) == ("ViT-B-16-datacomp_xl_s13b_b90k", "d" * 40)
    with pytest.raises(UsageError, match=r"unknown open_clip tag of ViT-B-16 'datacomp_xl'.*Known: "):
        describe("open_clip:ViT-B-16/datacomp_xl")


def test_light_work_imports_nothing_heavy(shelf: tiny_models.Shelf) -> None:
    """Listing, and describing what is remembered, must not cost the seconds of a model library."""
    folders = [
        str(shelf[name]) for name in ("open_clip_vit", "open_clip_convnext", "siglip", "dinov2", "timm_vit")
    ]
    for folder in folders:
        describe(folder)
    # Of a timm tower, as mini-convnext's, only the model itself knows the facts: once.
    list_backbones()
    script = (
        "import sys\n"
        "from deponij.pipeline.backbones import describe, list_backbones\n"
        "list_backbones()\n"
        f"for folder in {folders!r}: describe(folder)\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm', 'huggingface_hub', 'safetensors'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    assert python(script, {}) == ""


def test_json_formats_need_no_library_even_at_first(shelf: tiny_models.Shelf, tmp_path: Path) -> None:
    folders = [str(shelf[name]) for name in ("open_clip_vit", "siglip", "dinov2_registers")]
    script = (
        "import sys\n"
        "from deponij.pipeline.backbones import describe\n"
        f"for folder in {folders!r}: describe(folder)\n"
        "sys.exit(', '.join({'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)) or 0)\n"
    )
    assert python(script, {"DEPONIJ_CACHE": str(tmp_path / "empty")}) == ""


def test_defaults_are_those_of_the_library() -> None:
    """Records that are silent (google/siglip-base-patch16-224 is) mean the library's defaults."""
    from transformers import Dinov2Config, Dinov2WithRegistersConfig, SiglipTextConfig, SiglipVisionConfig

    from deponij.pipeline.backbones.families import dinov2, siglip

    pairs = [
        (siglip._VISION_DEFAULTS, SiglipVisionConfig()),
        (siglip._TEXT_DEFAULTS | {"projection_size": 768}, SiglipTextConfig()),
        (dinov2._DEFAULTS_BY_TYPE["dinov2"] | {"num_register_tokens": None}, Dinov2Config()),
        (dinov2._DEFAULTS_BY_TYPE["dinov2_with_registers"], Dinov2WithRegistersConfig()),
    ]
    for ours, theirs in pairs:
        for name, value in ours.items():
            assert getattr(theirs, name, None) == value, name
