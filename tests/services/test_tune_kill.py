"""Tunings of real processes that are killed (-9): what they leave, what goes on, and a second one of the same name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cli_world
import pytest
import tiny_models

from deponij.project.tuning import pictures

ROOT = Path(__file__).resolve().parents[2]
# After so many pictures that are decoded, or steps that are done, it says so and stands still.
DRIVER = """
import sys, time
from deponij import cli
from deponij.project.tuning import begun, pictures
where, at = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

def stop():
    print("here", flush=True)
    time.sleep(600)

def decoding(*arguments):
    for number, one in enumerate(decode(*arguments)):
        if number == at:
            stop()
        yield one

class Steps:
    def __init__(self, name): pass
    def __enter__(self): return lambda step: stop() if step.done == at else None
    def __exit__(self, *_): pass

decode = pictures._decode
if where == "decode":
    pictures._decode = decoding
else:
    begun.training_bar = Steps
cli.main()
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`deponij tune` of a tiny DINOv2, but for its --out."""
    root = tmp_path_factory.mktemp("killed")
    tiny_models.dinov2(root / "base")
    cli_world.class_folders(root / "pictures")
    cli_world.done("items", "--folder", root / "pictures", "--out", root / "items", status=3)
    split = ["--strategy", "random", "--fractions", "0.4", "0.2", "0.4", "--out", root / "split.parquet"]
    cli_world.done("split", "--items", root / "items", *split)
    where = ["--items", root / "items", "--split", root / "split.parquet", "--labels", "label"]
    how = ["--backbone", root / "base", "--depot", root / "depot", "--device", "cpu", "--threads", "1"]
    return [str(one) for one in ("tune", *where, *how, "--epochs", "2", "--batch", "8", "--lr", "0.01")]


def standing(where: str, at: int, arguments: list[str]) -> subprocess.Popen[str]:
    """A process that has come there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, where, str(at), *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@pytest.mark.timeout(600)
def test_a_killed_tuning_leaves_one_folder_that_the_next_one_takes(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, unfinished = tmp_path / "cans", tmp_path / "cans.unfinished"
    cli_world.done(*asked, "--out", tmp_path / "whole" / "cans")

    process = standing("decode", 5, [*asked, "--out", str(out)])
    second = cli_world.call(*asked, "--out", out)
    assert second.status == 1
    assert f"another process is tuning this, in {unfinished}" in second.err
    killed(process)
    # What was half made does not count, and is written over.
    assert names(tmp_path) == {"whole", "cans.unfinished"}
    assert names(unfinished) == {"pictures.part"}

    process = standing("step", 3, [*asked, "--out", str(out)])
    second = cli_world.call(*asked, "--out", out)
    assert second.status == 1
    assert "wait for it to end, or tune under another name" in second.err
    killed(process)
    assert names(tmp_path) == {"whole", "cans.unfinished"}
    # What it took so far is written now and then.
    assert names(unfinished) - {"took.json"} == {"pictures", "checkpoint"}

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_decode", None)  # nothing is decoded again
        answer = cli_world.done(*asked, "--out", out)
    assert "pictures are decoded already" in answer.err
    assert names(tmp_path) == {"whole", "cans"}
    for name in ("model.safetensors", "learned_from.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / "cans" / name).read_bytes()


@pytest.mark.timeout(600)
def test_decoded_pictures_that_are_damaged_or_others_are_made_again(asked: list[str], tmp_path: Path) -> None:
    out, kept = tmp_path / "cans", tmp_path / "cans.unfinished" / "pictures"
    killed(standing("step", 1, [*asked, "--out", str(out)]))
    content = bytearray((kept / "pixels").read_bytes())
    content[100] ^= 1
    (kept / "pixels").write_bytes(content)
    again = cli_world.done(*asked, "--out", out)
    assert "decoded already" not in again.err

    killed(standing("step", 1, [*asked, "--out", str(out)]))
    other = cli_world.done(*asked, "--set", "input_px=[28,28]", "--out", out)
    assert "decoded already" not in other.err


def test_what_fails_before_it_begins_leaves_nothing(asked: list[str], tmp_path: Path) -> None:
    wrong = [*asked[: asked.index("--labels")], "--labels", "flavour", *asked[asked.index("--labels") + 2 :]]
    assert cli_world.call(*wrong, "--out", tmp_path / "cans").status != 0
    assert not names(tmp_path)
