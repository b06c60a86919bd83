"""Arrays beyond memory: the same numbers, in room that is there before it is written to and leaves nothing behind."""

import errno
import gc
import os
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from deponij.project.extraction.devices import free_memory_bytes
from deponij.store import hdf5, scratch
from deponij.store.errors import MachineError, UsageError

ROWS = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float16)


@pytest.fixture(params=["in memory", "on a disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both sides of the limit, and the folder of the second one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if request.param == "on a disk":
        monkeypatch.setenv(scratch.MEMORY, "0")
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 10 * 7 * 2)
    return tmp_path


def mapped(folder: Path) -> int:
    """How many files of a folder this process has in its address space."""
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_an_array_is_an_array(place: Path) -> None:
    room = scratch.scratch((3, 5), np.float32)
    room[:] = 2
    assert type(room) is np.ndarray and room.shape == (3, 5) and room.dtype == np.float32
    assert room.flags.c_contiguous and room.flags.writeable and room.sum() == 30
    assert room.ctypes.data % 64 == 0
    assert scratch.scratch((0, 5), np.float32).shape == (0, 5)


def test_nothing_lies_in_the_folder_and_the_room_goes_with_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(scratch.MEMORY, "0")
    room = scratch.scratch((1000, 8), np.float64)
    assert mapped(tmp_path) == 1 and not list(tmp_path.iterdir())
    del room
    gc.collect()
    assert mapped(tmp_path) == 0


def test_rows_are_taken_as_numpy_takes_them(place: Path) -> None:
    rows = np.array([5, 3, 99, 3])
    np.testing.assert_array_equal(scratch.taken(ROWS, rows), ROWS[rows])
    for some in ([2, 5, 9], [2, 3, 3, 4]):  # ascending, and yet not side by side
        np.testing.assert_array_equal(scratch.taken(ROWS, np.array(some)), ROWS[some])
    np.testing.assert_array_equal(scratch.taken(ROWS, np.arange(90)[::-1]), ROWS[:90][::-1])
    assert scratch.taken(ROWS, rows[:0]).shape == (0, 7)
    beside = scratch.taken(ROWS, np.arange(20, 70))
    assert beside.base is ROWS
    np.testing.assert_array_equal(beside, ROWS[20:70])


def test_arrays_are_joined_as_numpy_joins_them(place: Path) -> None:
    wide = ROWS.astype(np.float32) / 3
    for joined, axis in ((scratch.stacked, 0), (scratch.beside, 1)):
        whole = np.concatenate([ROWS, wide, ROWS], axis)
        found = joined([ROWS, wide, ROWS])
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole)
    assert scratch.beside([ROWS]) is ROWS
    np.testing.assert_array_equal(scratch.converted(wide, np.float16), wide.astype(np.float16))


def test_rows_that_are_not_finite_are_found(place: Path) -> None:
    rows = ROWS.copy()
    rows[3, 0], rows[57, 6] = np.nan, np.inf
    assert np.flatnonzero(~scratch.finite_rows(rows)).tolist() == [3, 57]
    assert scratch.finite_rows(rows[:0]).shape == (0,)


def test_a_dataset_is_read_as_whole_reads_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is read at once ends where the dataset does, so that no slice of it tells of a row too many.
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 5 * 7 * 2)
    monkeypatch.setattr(hdf5, "_CHUNKS_AT_ONCE", 2)
    generator = np.random.default_rng(1)
    with h5py.File(place / "rows.h5", "w") as file:
        hdf5.write_array(file, "rows", ROWS)
        for rows in (
            np.arange(100),
            generator.permutation(100),
            generator.integers(0, 100, 300),
            generator.permutation(100)[:9],
            np.arange(40, 90),
        ):
            np.testing.assert_array_equal(hdf5.read_rows(file["rows"], rows), ROWS[rows])
        with pytest.raises(IndexError):
            hdf5.read_rows(file["rows"], np.arange(1, 101))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(descriptor: int, start: int, n_bytes: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(scratch.MEMORY, "0")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MachineError) as told:
        scratch.scratch((1000, 1000), np.float64)
    for word in ("8,000,000 bytes", str(tmp_path), "TMPDIR", os.strerror(code)):
        assert word in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setenv(scratch.MEMORY, "0")
    with pytest.raises(MachineError, match="absent.*No such file"):
        scratch.scratch((10,), np.float64)


def test_the_limit_is_a_share_of_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "available_bytes", lambda: 8 << 30)
    assert scratch.fits_in_memory(1 << 30) and not scratch.fits_in_memory((1 << 30) + 1)
    monkeypatch.setattr(scratch, "available_bytes", lambda: 0)
    assert scratch.fits_in_memory(1 << 20), "what is small is not asked for"
    monkeypatch.setenv(scratch.MEMORY, "0.5")
    assert scratch.fits_in_memory(1 << 26) and not scratch.fits_in_memory((1 << 26) + 1)
    for wrong in ("much", "nan", "-1"):
        monkeypatch.setenv(scratch.MEMORY, wrong)
        with pytest.raises(UsageError, match=wrong):
            scratch.fits_in_memory(1)


def test_what_control_groups_leave_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's files, made up: the outer group has the lower limit, and its cached files make way."""
    (tmp_path / "batch" / "job").mkdir(parents=True)
    own = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, *more, **named: (
            "1:cpu:/\n0::/batch/job\n" if path == Path("/proc/self/cgroup") else own(path, *more, **named)
        ),
    )
    monkeypatch.setattr(scratch, "_CGROUPS", tmp_path)
    for name, limit in (("batch/job", "max"), ("batch", f"{1 << 30}"), (".", "max")):
        folder = tmp_path / name
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{600 << 20}\n")
        (folder / "memory.stat").write_text(f"anon {500 << 20}\nfile {100 << 20}\n")
    left = min((1 << 30) - (500 << 20), psutil.virtual_memory().available)
    assert scratch.available_bytes() == left
    # What a training is fitted into, too, is what the container has left and not the machine.
    assert free_memory_bytes("cpu") == left
