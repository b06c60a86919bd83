"""`deponij push`: a tuned backbone on a hub of the loopback interface, and the same backbone again from there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cli_world
import huggingface_hub.constants as hub_settings
import pytest
import tiny_models
import torch
import tuning_world
from loopback_hub import UploadHub, serving

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.contract import Description
from deponij.pipeline.tuning.saved import read_tuned, save_tuned
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from, learned_from_table
from deponij.project.tuning.card import CARD, card
from deponij.project.tuning.record import TunedRecord
from deponij.store.sealed import sealed

ROOT = Path(__file__).resolve().parents[2]
REPO, TOKEN = "somebody/cans", "hf_loopback"
SEEN = {"0123456789abcdef" * 2: "train", "f" * 32: "val"}
# Of what `save_tuned` and peft write for a DINOv2; the card and the table are this file's.
NAMES = {
    *(
        "README.md",
        "config.json",
        "learned_from.parquet",
        "model.safetensors",
        "preprocessor_config.json",
        "tuned.json",
    ),
    *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
}
Push = Callable[..., cli_world.Answer]


def record_of(base: str, licence: str | None) -> TunedRecord:
    figures: dict[str, Any] = {"n_train": 2, "n_val": 1, "n_weights": 9, "n_learned": 3, "size_bytes": 36}
    return TunedRecord(
        name="cans", base=base, base_name="base", base_weights="0" * 64, licence=licence, recipe={"lora": {"rank": 2}},
        said="LoRA, rank 2, on all", labels="label", split="split", classes=("can", "cup"), history=({"loss": 1.0},),
        kept=0, top1={"val": 0.5}, **figures,
    )  # fmt: skip


def made(folder: Path, base: Path, licence: str | None) -> Path:
    tower = tuning_world.tower_of({"dinov2": base}, "dinov2", tuning_world.by_lora())  # type: ignore[arg-type]
    record = record_of(str(base), licence)

    def files_of(tuned: Description) -> dict[str, bytes]:
        told = card(record, tuned.weights_sha256).encode()
        return {LEARNED_FROM: learned_from_table(SEEN), CARD: told}

    save_tuned(folder, tuning_world.learned(tower), str(base), record.model_dump(mode="json"), files_of)
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two folders, of one of which nobody knows the licence."""
    root = tmp_path_factory.mktemp("tuned")
    torch.set_num_threads(1)
    tiny_models.dinov2(root / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        return {
            "cans": made(root / "cans", root / "base", "Apache-2.0"),
            "unknown": made(root / "unknown", root / "base", None),
        }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """The client reads some of its settings once, when it is imported."""
    monkeypatch.setattr(hub_settings, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_settings, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hub_settings, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LOOPBACK_TOKEN", TOKEN)
    (tmp_path / "repository").mkdir()
    with serving(UploadHub(tmp_path / "repository", REPO, TOKEN)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def push(folder: Path, *more: str, token_from: str | None = "LOOPBACK_TOKEN") -> cli_world.Answer:
    token = [] if token_from is None else ["--token-from", token_from]
    return cli_world.call("push", folder, "--repo", REPO, *token, *more)


def test_what_was_pushed_is_the_same_backbone_anywhere(
    hub: UploadHub, tuned: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own, with the settings as a person has them.
    env = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "home")}
    arguments = ["push", str(tuned["cans"]), "--repo", REPO, "--create", "--private", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "deponij.cli", *arguments],
        cwd=ROOT,
        env=env | {"HF_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["address"] == f"{hub.endpoint}/{REPO}"
    assert answer["spec"] == f"hf:{REPO}@{hub.commit}"
    assert hub.private
    # Every file as it lies in the folder, byte for byte, but for those that name the base's folder on this machine.
    there = {str(one.relative_to(hub.folder)): one for one in hub.folder.rglob("*") if one.is_file()}
    assert set(there) == NAMES == set(answer["files"])
    for name, path in there.items():
        own = (tuned["cans"] / name).read_bytes()
        place = str(tuned["cans"].parent / "base").encode()
        assert place not in path.read_bytes(), name
        if place not in own and name not in ("tuned.json", "README.md"):
            assert path.read_bytes() == own, name
        assert answer["files"][name] == path.stat().st_size
        assert name in done.stderr
    assert read_tuned(hub.folder)["tuned"]["base"] == "base"
    assert (
        json.loads((hub.folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "base"
    )

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = load(answer["spec"], allow_download=True)
    assert found.description.weights_sha256 == load(str(tuned["cans"])).description.weights_sha256
    # What it has learned from came along, so that nothing tests it by that.
    assert learned_from(answer["spec"], found.description.weights_sha256) == SEEN


def test_the_same_once_more_uploads_nothing(hub: UploadHub, tuned: dict[str, Path]) -> None:
    assert push(tuned["cans"], "--create").status == 0
    n_put, commit = len(hub.put), hub.commit
    again = push(tuned["cans"], "--create", "--json")
    assert again.status == 0, again.err
    assert again.json["was_there"] is True
    assert again.json["commit"] == commit
    assert (len(hub.put), hub.n_commits) == (n_put, 1)


def test_another_content_needs_overwrite_which_leaves_nothing_of_it(
    hub: UploadHub, tuned: dict[str, Path]
) -> None:
    hub.exists = True
    (hub.folder / "pytorch_model.bin").write_bytes(b"of another model")
    refused = push(tuned["cans"])
    assert refused.status == 2
    assert "holds 1 other files, as pytorch_model.bin" in refused.err and "--overwrite" in refused.err
    assert (hub.put, hub.n_commits) == ([], 0)
    assert push(tuned["cans"], "--overwrite").status == 0
    assert {str(one.relative_to(hub.folder)) for one in hub.folder.rglob("*") if one.is_file()} == NAMES


def test_a_hub_that_dies_in_the_middle_and_going_on(hub: UploadHub, tuned: dict[str, Path]) -> None:
    hub.dies_at = "/commit/main"
    broken = push(tuned["cans"], "--create")
    assert broken.status == 1
    assert (
        f"the upload to {hub.endpoint} broke off" in broken.err and "the same command goes on" in broken.err
    )
    assert "Traceback" not in broken.err
    before = list(hub.put)
    assert len(before) == 3  # both safetensors and the table
    assert not list(hub.folder.iterdir())
    hub.dies_at = None
    assert push(tuned["cans"], "--create").status == 0
    assert hub.put == before
    assert read_tuned(hub.folder)["weights_sha256"] == read_tuned(tuned["cans"])["weights_sha256"]


def test_repositories_and_branches_are_made_only_where_that_is_asked(
    hub: UploadHub, tuned: dict[str, Path]
) -> None:
    absent = push(tuned["cans"])
    assert absent.status == 2
    assert f"there is no {REPO} at {hub.endpoint}" in absent.err and "--create" in absent.err
    hub.exists = True
    lacking = push(tuned["cans"], "--revision", "second")
    assert lacking.status == 2
    assert f"{REPO} has no branch second; --create makes it" in lacking.err
    public = push(tuned["cans"], "--create", "--private")
    assert public.status == 2
    assert "is there already, and public" in public.err
    assert hub.n_commits == 0
    done = push(tuned["cans"], "--revision", "second", "--create", "--json")
    assert done.status == 0, done.err
    assert done.json["address"] == f"{hub.endpoint}/{REPO}/tree/second"
    assert any(path.endswith("/commit/second") for path in hub.asked)


@pytest.mark.parametrize(
    ("token_from", "held", "status", "told"),
    [
        (None, None, 2, "there is no token of the hub"),
        ("NOT_SET", None, 2, "the variable NOT_SET is not set"),
        ("LOOPBACK_TOKEN", "hf_wrong", 1, "(401)"),
    ],
)
def test_without_a_token_that_is_taken(
    hub: UploadHub,
    tuned: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    token_from: str | None,
    held: str | None,
    status: int,
    told: str,
) -> None:
    if held is not None:
        monkeypatch.setenv("LOOPBACK_TOKEN", held)
    answer = push(tuned["cans"], "--create", token_from=token_from)
    assert answer.status == status, answer.err
    assert told in answer.err and "Traceback" not in answer.err
    assert "hf_wrong" not in answer.err
    assert not hub.exists


def test_a_licence_that_nobody_knows_is_asked_for_and_stands_in_card_and_record(
    hub: UploadHub, tuned: dict[str, Path]
) -> None:
    refused = push(tuned["unknown"], "--create")
    assert refused.status == 2
    assert "--licence NAME" in refused.err and not hub.exists
    odd = push(tuned["unknown"], "--create", "--licence", "mit\nbase_model: x")
    assert odd.status == 2
    assert "is no name of a licence" in odd.err
    done = push(tuned["unknown"], "--create", "--licence", "Our Own 2.0")
    assert done.status == 0, done.err
    # As the hub takes names that it does not know (model cards, `license: other`).
    head = (hub.folder / "README.md").read_text().split("---")[1]
    assert head.split() == ["license:", "other", "license_name:", "our-own-2.0", "library_name:", "deponij"]
    assert read_tuned(hub.folder)["tuned"]["licence"] == "Our Own 2.0"
    # The folder here is as it was.
    assert read_tuned(tuned["unknown"])["tuned"]["licence"] is None


def test_the_card_names_a_base_of_the_hub_and_no_folder() -> None:
    lines = card(record_of("dinov2-base", "Apache-2.0"), "f" * 64).splitlines()
    assert lines[:5] == [
        "---",
        "license: apache-2.0",
        "base_model: facebook/dinov2-base",
        "library_name: deponij",
        "---",
    ]
    assert "base_model" not in card(record_of("/somewhere/else", "MIT"), "f" * 64)


def test_folders_that_are_no_tuned_backbone_or_damaged(
    hub: UploadHub, tuned: dict[str, Path], tmp_path: Path
) -> None:
    answer = push(tuned["cans"].parent / "base", "--create")
    assert answer.status == 2
    assert "is no tuned backbone: it has no tuned.json" in answer.err
    copy = shutil.copytree(tuned["cans"], tmp_path / "copy")
    (copy / "notes.txt").write_text("mine")
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    answer = push(copy, "--create")
    assert answer.status == 1
    assert f"{copy / 'model.safetensors'} is damaged or was edited" in answer.err
    assert not hub.asked
    shutil.copyfile(tuned["cans"] / "model.safetensors", copy / "model.safetensors")
    done = push(copy, "--create")
    assert done.status == 0, done.err
    assert "not uploaded, for tuned.json does not name them: notes.txt" in done.err
    assert not (hub.folder / "notes.txt").exists()
    body = read_tuned(copy)
    (copy / "tuned.json").write_bytes(sealed(body | {"tuned": {"name": "x"}}))
    assert "is of another version" in push(copy, "--create").err


def test_flags_that_do_not_go_together_and_no_network(
    hub: UploadHub, tuned: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--private is for --create" in push(tuned["cans"], "--private").err
    for repo, told in (
        ("alone", "it must be USER/NAME"),
        ("a/b/c", "it must be USER/NAME"),
        ("a/b c", "a/b c"),
    ):
        answer = cli_world.call("push", tuned["cans"], "--repo", repo, "--token-from", "LOOPBACK_TOKEN")
        assert answer.status == 2
        assert f"--repo {repo}: " in answer.err and told in answer.err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    unreached = push(tuned["cans"], "--create")
    assert unreached.status == 1
    assert "the upload to http://127.0.0.1:9 broke off" in unreached.err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in push(tuned["cans"], "--create").err
