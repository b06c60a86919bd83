"""Fetching from a hub on the loopback interface, in a process of its own: the client reads settings once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from loopback_hub import Hub, serving

from deponij.pipeline.backbones import describe, sources
from deponij.pipeline.backbones.fetch import fetch, files_to_fetch
from deponij.pipeline.backbones.registry import family
from deponij.store.errors import BackboneError

ROOT = Path(__file__).resolve().parents[3]
COMMIT = "1" * 40
NAME = "convnext-base-w-320"  # the catalog has no commit for it
REPO = "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K-augreg"


@pytest.fixture
def hub(shelf: tiny_models.Shelf, tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    for path in shelf["open_clip_convnext"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"not wanted: safetensors are there")
    (folder / "README.md").write_text("not wanted")
    with serving(Hub(folder, REPO, COMMIT)) as server:
        yield server


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def fetch_in_a_process(spec: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys\n"
        "from deponij.pipeline.backbones.fetch import fetch\n"
        "from deponij.store.errors import DeponijError\n"
        "try: print(fetch(sys.argv[1]))\n"
        "except DeponijError as error: sys.exit(str(error))\n"
    )
    env = {
        name: value
        for name, value in os.environ.items()
        if "OFFLINE" not in name and "PROXY" not in name.upper()
    }
    env |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", script, spec]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120
    )


def test_fetch_pins_and_describes(hub: Hub) -> None:
    done = fetch_in_a_process(NAME, hub.endpoint)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1])
    assert sorted(one.name for one in folder.iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    assert sources.pin_of(REPO) == COMMIT
    told = describe(NAME)
    assert (told.revision, told.source) == (COMMIT, f"hf:{REPO}")
    assert not any("pytorch_model" in path or "README" in path for path in hub.asked)

    # main has moved on; this machine keeps to its pin, and what is here is not asked for again
    hub.commit = "2" * 40
    before = len(hub.asked)
    again = fetch_in_a_process(NAME, hub.endpoint)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert len(hub.asked) == before


def test_hub_that_lacks_files_or_the_repository(hub: Hub) -> None:
    (hub.folder / "open_clip_config.json").unlink()
    lacking = fetch_in_a_process(NAME, hub.endpoint)
    assert lacking.returncode == 1
    assert f"{REPO} at {COMMIT} lacks open_clip_config.json" in lacking.stderr
    absent = fetch_in_a_process("hf:nobody/nothing", hub.endpoint)
    assert absent.returncode == 1
    assert "nobody/nothing (revision main) could not be fetched" in absent.stderr
    assert "Traceback" not in absent.stderr
    assert sources.pin_of(REPO) is None


def test_hub_that_does_not_answer() -> None:
    done = fetch_in_a_process("dinov2-base", "http://127.0.0.1:9")
    assert done.returncode == 1
    # What was tried, how much it is, and the way by another machine: not once more the command that just failed.
    for part in (
        "the network cannot be reached (tried http://127.0.0.1:9: ",
        "facebook/dinov2-base (about 346 MB, Apache-2.0)",
        "there, run `deponij weights fetch dinov2-base`",
        "copy the folder models--facebook--dinov2-base of its Hugging Face cache, links and all",
        f"into\n    {sources.hub_cache()} here",
        str(sources.manual_folder("dinov2-base")),
        "config.json; preprocessor_config.json or processor_config.json; model.safetensors or",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_more_than_the_disk_holds_is_not_begun(hub: Hub) -> None:
    hub.size = 10**18  # bytes of each of the two files that are wanted
    done = fetch_in_a_process(NAME, hub.endpoint)
    assert done.returncode == 1
    assert "2,000,000,000,000 MB are to be fetched" in done.stderr and "HF_HUB_CACHE" in done.stderr
    assert not any("/resolve/" in path for path in hub.asked)


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_network(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file where the cache should be")
    done = fetch_in_a_process(NAME, hub.endpoint)
    assert done.returncode == 1
    assert f"{tmp_path / 'hub'} cannot be written" in done.stderr and "network" not in done.stderr


def test_offline_asks_nothing_and_tells_the_way_by_another_machine() -> None:
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set") as caught:
        fetch("dinov2-base")
    assert "To bring them from a machine that has a network" in str(caught.value)


def test_local_folder_is_its_own_result(shelf: tiny_models.Shelf) -> None:
    assert fetch(str(shelf["dinov2"])) == shelf["dinov2"]


def test_wanted_files() -> None:
    listing = [
        ".gitattributes",
        "README.md",
        "config.json",
        "flax_model.msgpack",
        "model.safetensors",
        "onnx/model.onnx",
        "open_clip_config.json",
        "open_clip_pytorch_model.bin",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "tokenizer.json",
    ]
    records = ["config.json", "open_clip_config.json", "tokenizer.json"]
    assert files_to_fetch(family("dinov2"), listing) == sorted([*records, "model.safetensors"])
    assert files_to_fetch(family("open_clip"), listing) == sorted([*records, "open_clip_pytorch_model.bin"])
    assert files_to_fetch(None, ["config.json", "model.safetensors"]) == ["config.json", "model.safetensors"]
