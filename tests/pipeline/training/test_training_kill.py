"""Trainings of real processes, killed (-9) or interrupted; what they end with is held against an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import training_toy

ROOT = Path(__file__).parents[3]
FILES = ("weights.safetensors", "history.json")
N_BATCHES = training_toy.ALL_AT_ONCE.epochs * 6


def started(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, training_toy.__file__, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def ended(folder: Path) -> tuple[list[str], list[bytes]]:
    """What a process that is let be says, and its files."""
    said, _ = started(folder).communicate()
    return said.splitlines(), [(folder / name).read_bytes() for name in FILES]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_moment_it_comes_to_the_same_bytes(tmp_path: Path) -> None:
    undisturbed, wanted = ended(tmp_path / "whole")
    assert undisturbed == [str(number) for number in range(1, N_BATCHES + 1)]
    rng = np.random.default_rng(5)
    folder = tmp_path / "killed"
    n_killed, at = 0, 0
    # a few steps further each time: within an epoch, at its end, while a checkpoint is written
    while at < N_BATCHES - 8:
        process = started(folder)
        assert process.stdout is not None
        for _ in range(int(rng.integers(3, 8))):
            line = process.stdout.readline()
        time.sleep(rng.uniform(0, 2 * training_toy.STEP_S))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        # at most the group of two batches in hand was lost
        assert int(line) > at
        n_killed, at = n_killed + 1, int(line)
    said, found = ended(folder)
    assert n_killed >= 3 and found == wanted
    assert int(said[0]) >= at - 1 and "note" not in "".join(said)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_interrupted_it_says_how_to_go_on_and_loses_nothing(tmp_path: Path) -> None:
    _, wanted = ended(tmp_path / "whole")
    folder = tmp_path / "interrupted"
    process = started(folder)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(9)]
    process.send_signal(signal.SIGINT)
    lines += process.communicate()[0].splitlines()
    # the group in hand is finished: an even number of batches
    assert lines[-1].startswith("note: interrupted after") and int(lines[-2]) % 2 == 0
    said, found = ended(folder)
    assert int(said[0]) == int(lines[-2]) + 1 and found == wanted
