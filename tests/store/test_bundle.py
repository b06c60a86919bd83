"""Files that belong together: replaced as one whatever happens in between, and read as they were written."""

import ctypes
import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deponij.store import atomic
from deponij.store.atomic import discard_folder
from deponij.store.bundle import MANIFEST, read_bundle, write_bundle
from deponij.store.errors import StoreError

OLD = {"card.json": b"old card", "numbers.bin": b"old numbers" * 99}
NEW = {"card.json": b"new card", "numbers.bin": b"new numbers" * 99}


def write(folder: Path, files: dict[str, bytes]) -> None:
    write_bundle(folder, files, what="spoons")


def read(folder: Path) -> dict[str, bytes]:
    return read_bundle(folder, ["card.json", "numbers.bin"], what="spoons", remedy="carve them again")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read_and_an_earlier_one_goes(tmp_path: Path) -> None:
    folder = tmp_path / "far" / "away"
    write(folder, OLD | {"more.txt": b"x"})
    assert read(folder) == OLD
    assert read_bundle(folder, [], ["more.txt", "less.txt"], what="spoons", remedy="") == {"more.txt": b"x"}
    write(folder, NEW)
    assert read(folder) == NEW
    assert names(folder) == [MANIFEST, "card.json", "numbers.bin"]
    assert names(folder.parent) == ["away"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write(folder, dict(reversed(NEW.items())))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_whatever_else_lies_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", OLD)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(
        StoreError, match=r"holds other files \(such as 'notes.txt'\); name a folder for spoons"
    ):
        write(tmp_path / "a", NEW)
    assert read(tmp_path / "a") == OLD
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file; spoons needs a folder"):
        write(tmp_path / "file", NEW)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StoreError, match="is the current folder"):
        write(Path(), NEW)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda at: (at / "card.json").write_bytes(b"old carb"),
            "card.json is damaged or was edited: .* or carve",
        ),
        (lambda at: (at / "card.json").unlink(), "card.json is missing; restore the folder, or carve"),
        (lambda at: (at / MANIFEST).unlink(), f"lacks {MANIFEST}, which guards its files: an older version"),
        (lambda at: (at / MANIFEST).write_bytes(b"{"), f"{MANIFEST} is damaged or was edited"),
        (lambda at: (at / MANIFEST).write_bytes(b"{}"), f"{MANIFEST} has no 'checksum'"),
        (lambda at: [path.unlink() for path in at.iterdir()], "there are no spoons in .*no card.json; carve"),
    ],
)
def test_anything_else_is_refused_with_the_remedy(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    write(tmp_path / "a", OLD)
    spoil(tmp_path / "a")
    with pytest.raises(StoreError, match=said):
        read(tmp_path / "a")
    if said.startswith("there are no"):
        write(tmp_path / "a", NEW)
        assert read(tmp_path / "a") == NEW


@pytest.fixture(params=["exchanged", "renamed twice"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a file system that exchanges two names."""
    if request.param == "renamed twice":
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    return str(request.param)


def test_replaced_either_way(swap: str, tmp_path: Path) -> None:
    write(tmp_path / "a", OLD)
    write(tmp_path / "a", NEW)
    assert read(tmp_path / "a") == NEW
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_file_systems_that_exchange_no_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As renameat2(2) and their drivers say it; any other error is one."""
    write(tmp_path / "a", OLD)
    library = SimpleNamespace(renameat2=lambda *_: ctypes.set_errno(code) or -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    if code == errno.EIO:
        with pytest.raises(StoreError, match="Input/output error"):
            write(tmp_path / "a", NEW)
    else:
        write(tmp_path / "a", NEW)
    assert read(tmp_path / "a") == (OLD if code == errno.EIO else NEW)
    assert names(tmp_path) == ["a"]


def test_a_link_leads_to_what_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a", OLD)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "link") == read(tmp_path / "a") == NEW
    assert names(tmp_path) == ["a", "link"]


def test_what_a_killed_writer_left_is_no_part_of_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "a.part" / "folder").mkdir(parents=True)
    (tmp_path / "a.part" / "stale.bin").touch()
    write(tmp_path / "a", NEW)
    assert names(tmp_path / "a") == [MANIFEST, *sorted(NEW)]


@pytest.fixture
def steps(swap: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is flushed, and what is put in a place, as it happens."""
    found: list[tuple[str, Path]] = []
    rename, replace, exchange = Path.rename, Path.replace, atomic._exchange

    def placed(real: Callable[[Path, Path], object], path: Path, target: Path) -> object:
        if done := real(path, target):
            found.append(("placed", Path(target)))
        return done

    def flushed(descriptor: int) -> None:
        found.append(("flushed", Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", lambda path, target: placed(rename, path, target))
    monkeypatch.setattr(Path, "replace", lambda path, target: placed(replace, path, target))
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: placed(exchange, one, other))
    return found


def flushed_before_and_after(steps: list[tuple[str, Path]], place: Path) -> tuple[set[Path], set[Path]]:
    at = steps.index(("placed", place))
    before, after = ({path for what, path in some if what == "flushed"} for some in (steps[:at], steps[at:]))
    return before, after


def test_what_is_put_in_a_place_is_on_the_disk_before_and_its_name_after(
    tmp_path: Path, steps: list[tuple[str, Path]]
) -> None:
    """Else a loss of power could leave names of files that have no content, or the folder that was replaced."""
    folder, part = tmp_path / "far" / "a", tmp_path / "far" / "a.part"
    for files in (OLD, NEW):
        steps.clear()
        write(folder, files)
        before, after = flushed_before_and_after(steps, folder)
        assert {part, part / MANIFEST, *(part / name for name in files)} <= before
        assert folder.parent in after
    steps.clear()
    atomic.write_bytes(tmp_path / "new" / "folders" / "x.json", b"{}")
    before, after = flushed_before_and_after(steps, tmp_path / "new" / "folders" / "x.json")
    assert {tmp_path / "new" / "folders" / "x.json.part", tmp_path / "new", tmp_path} <= before
    assert tmp_path / "new" / "folders" in after


def test_readers_meet_one_or_the_other(tmp_path: Path) -> None:
    folder, ended = tmp_path / "a", threading.Event()
    write(folder, OLD)

    def replace() -> None:
        for _ in range(60):
            write(folder, NEW)
            write(folder, OLD)
        ended.set()

    writer = threading.Thread(target=replace)
    writer.start()
    seen = set()
    while not ended.is_set():
        found = read(folder)
        assert found in (OLD, NEW)
        seen.add(found["card.json"])
    writer.join()
    assert len(seen) == 2


def _write_many(folder: Path, files: dict[str, bytes]) -> None:
    for _ in range(30):
        write(folder, files)


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_write_many, args=(tmp_path / "a", files)) for files in (OLD, NEW)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert read(tmp_path / "a") in (OLD, NEW)
    assert names(tmp_path) == ["a"]


# Before which call of which function of `atomic` the process dies.
MOMENTS = [
    ("flush", 1),
    ("flush", 3),
    ("flush", 4),
    ("_exchange", 1),
    ("shutil.rmtree", 1),
    ("shutil.rmtree", 2),
]


def _write_and_die(folder: Path, function: str, occurrence: int) -> None:
    owner: object = atomic
    *modules, name = function.split(".")
    for module in modules:
        owner = getattr(owner, module)
    real, seen = getattr(owner, name), 0

    def dying(*args: object, **more: object) -> object:
        nonlocal seen
        seen += 1
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, name, dying)
    write(folder, NEW)


@pytest.mark.parametrize(("function", "occurrence"), MOMENTS)
def test_a_kill_leaves_one_of_them_and_the_next_writer_sweeps(
    swap: str, tmp_path: Path, function: str, occurrence: int
) -> None:
    folder = tmp_path / "a"
    write(folder, OLD)
    process = multiprocessing.get_context("fork").Process(
        target=_write_and_die, args=(folder, function, occurrence)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert read(folder) in (OLD, NEW)
    write(folder, NEW)
    assert read(folder) == NEW
    assert names(tmp_path) == ["a"]


def test_a_kill_between_the_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the folder has no name until the next writer comes, even if that one fails."""
    folder = tmp_path / "a"
    write(folder, OLD)
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    process = multiprocessing.get_context("fork").Process(
        target=_write_and_die, args=(folder, "Path.rename", 2)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(ZeroDivisionError), atomic.replacing_folder(folder):
        1 / 0  # noqa: B018
    assert read(folder) == OLD
    assert names(tmp_path) == ["a"]


def test_a_folder_goes_with_what_was_left_beside_it(tmp_path: Path) -> None:
    for name in ("a", "a.part", "a.old.part", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    discard_folder(tmp_path / "a")
    assert [one.name for one in tmp_path.iterdir()] == ["b"]
    discard_folder(tmp_path / "a")
