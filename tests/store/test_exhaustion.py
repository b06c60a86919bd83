"""A process without descriptors or memory: it says so, and blames no file for it."""

import errno
import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from depot_world import CLIP, fill, keys_of
from PIL import Image

from deponij.pipeline.data.inside import read_inside
from deponij.pipeline.pictures import decode
from deponij.store import hdf5, shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import DeponijError, MachineError, StoreError, exhaustion_told, explained
from deponij.store.label_maps import SceneClass, decode_labels, encode_labels


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_sound_shard_is_not_called_damaged(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4))
    (sidecar,) = store.sidecars
    # What is imported at the first reading.
    store.read(keys_of(range(4)), CLIP)
    with no_descriptors(), pytest.raises(MachineError, match="Too many open files"):
        shard.verify(store.folder, sidecar)
    with no_descriptors(), pytest.raises(MachineError, match="Too many open files"):
        store.read(keys_of(range(4)), CLIP)
    with no_descriptors(), pytest.raises(MachineError, match="ulimit -n"):
        FeatureStore(tmp_path / "depot")
    assert shard.verify(store.folder, sidecar) is None


def test_what_hdf5_has_no_memory_for_is_not_damaged() -> None:
    with (
        pytest.raises(MachineError, match=r"cannot read a\.h5: .*memory allocation failed"),
        hdf5.told_as_damage(io.BytesIO(), "a.h5"),
    ):
        raise OSError("Can't read data (memory allocation failed for raw data chunk)")
    with pytest.raises(StoreError, match="damaged"), hdf5.told_as_damage(io.BytesIO(), "a.h5"):
        raise OSError("Can't read data (filter returned failure during read)")


def test_a_picture_is_no_failure_for_want_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with no_descriptors(), pytest.raises(MachineError, match=r"a\.png.*no file descriptors are left"):
        read_inside(tmp_path, "a.png")
    content, labels = (
        (tmp_path / "a.png").read_bytes(),
        encode_labels(np.zeros((4, 4), np.uint8), [SceneClass("a", (0, 0, 0))]),
    )

    def opened(*_: object, **__: object) -> None:
        # As where Pillow imports a format's plug-in.
        raise OSError(errno.EMFILE, "Too many open files", "PngImagePlugin.py")

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(MachineError, match="a picture cannot be decoded: no file descriptors"):
        decode(content)
    with pytest.raises(MachineError, match="no file descriptors"):
        decode_labels(labels, 1, "a")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 4 GiB"), "not enough memory .*4 GiB"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), r"No space left on device \(a\)"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory"),
    ],
)
def test_what_has_run_out_is_told(error: Exception, words: str) -> None:
    with pytest.raises(MachineError, match=words) as told, exhaustion_told():
        raise error
    assert "run the same command to go on" in str(told.value)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "No such file"), RuntimeError("a fault of ours"), ImportError("x")]
)
def test_all_else_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as passed, exhaustion_told():
        raise error
    assert passed.value is error and not isinstance(error, DeponijError)


def test_a_file_is_blamed_for_what_is_its_own() -> None:
    with pytest.raises(StoreError, match="cannot read a: Input/output error"), explained("cannot read a"):
        raise OSError(errno.EIO, "Input/output error")
