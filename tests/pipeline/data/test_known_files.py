"""Files that are known are not read again; files that may have changed are, and no damage of the cache counts."""

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deponij.pipeline.data.known_files import RACY_NS, Facts, KnownFiles
from deponij.store.keys import DECODERS

FACTS = Facts(3, "d" * 40, "k" * 40, 30, 20, "0" * 16)


def remembered(at: Path, file: Path, age_ns: int = RACY_NS) -> os.stat_result:
    """Record a file as if it had been seen so long after its last change."""
    status = file.stat()
    with KnownFiles(at) as known:
        known.remember(file, status, max(status.st_mtime_ns, status.st_ctime_ns) + age_ns, FACTS)
    return status


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    return path


def test_a_file_is_known_until_it_changes(tmp_path: Path, file: Path) -> None:
    remembered(tmp_path / "k" / "known", file)
    with KnownFiles(tmp_path / "k" / "known") as known:
        assert known.by_status(file, file.stat()) == FACTS
        assert known.by_status(tmp_path / "other", file.stat()) is None
        assert known.by_digest(file, FACTS.digest) == FACTS
        assert known.by_digest(file, "e" * 40) is None
        file.write_bytes(b"abd")
        assert known.by_status(file, file.stat()) is None
        assert known.problem is None


def test_another_file_of_the_same_size_and_time_is_not_known(tmp_path: Path, file: Path) -> None:
    status = remembered(tmp_path / "known", file)
    other = tmp_path / "b.png"
    other.write_bytes(b"xyz")
    other.replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(file, file.stat()) is None


def test_a_file_that_is_written_over_and_given_its_old_time_is_not_known(tmp_path: Path, file: Path) -> None:
    """As `rsync --inplace --times` does it: size, inode and time of change of the content are as before."""
    status = remembered(tmp_path / "known", file)
    file.write_bytes(b"xyz")
    while file.stat().st_ctime_ns == status.st_ctime_ns:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(file, file.stat()) is None


def test_a_file_that_came_just_now_with_an_old_time_is_read_again(tmp_path: Path, file: Path) -> None:
    """As archives are unpacked: the inode's time alone tells that it may change again within the tick."""
    os.utime(file, ns=(0, 0))
    remembered(tmp_path / "known", file, RACY_NS - 1)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(file, file.stat()) is None


def test_a_file_that_was_recorded_right_after_a_change_is_read_again(tmp_path: Path, file: Path) -> None:
    remembered(tmp_path / "known", file, RACY_NS - 1)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(file, file.stat()) is None
        assert known.by_digest(file, FACTS.digest) == FACTS


def test_other_decoders_forget(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(tmp_path / "known", file)
    monkeypatch.setitem(DECODERS, "JPEG", 2)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_digest(file, FACTS.digest) is None


def test_a_file_that_is_written_meanwhile_is_not_recorded(tmp_path: Path, file: Path) -> None:
    status = file.stat()
    file.write_bytes(b"longer")
    with KnownFiles(tmp_path / "known") as known:
        known.remember(file, file.stat(), time.time_ns() + 10 * RACY_NS, FACTS)
        known.remember(tmp_path / "c", status, status.st_ctime_ns + RACY_NS, FACTS)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_digest(file, FACTS.digest) is None
        assert known.by_digest(tmp_path / "c", FACTS.digest) == FACTS


@pytest.mark.parametrize("damage", [b"no database" * 100, b""])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, file: Path, damage: bytes) -> None:
    (tmp_path / "known").write_bytes(damage)
    remembered(tmp_path / "known", file)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(file, file.stat()) == FACTS


def test_where_nothing_can_be_remembered_it_is_said(tmp_path: Path, file: Path) -> None:
    (tmp_path / "folder" / "known").mkdir(parents=True)
    with KnownFiles(tmp_path / "folder" / "known") as known:
        known.remember(file, file.stat(), 0, FACTS)
        assert known.by_status(file, file.stat()) is None
        assert known.problem is not None
        assert "known" in known.problem


def test_a_cache_that_is_lost_on_the_way_ends_nothing(tmp_path: Path, file: Path) -> None:
    remembered(tmp_path / "known", file)
    with KnownFiles(tmp_path / "known") as known:
        with sqlite3.connect(tmp_path / "known") as other:
            other.execute("drop table files")
        assert known.by_status(file, file.stat()) is None
        assert "no such table" in str(known.problem)
        assert known.by_status(file, file.stat()) is None


def test_what_is_forgotten_leaves_no_byte(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "b.png"
    other.write_bytes(b"xyz")
    with KnownFiles(tmp_path / "known") as known:
        for one, facts in ((file, FACTS), (other, replace(FACTS, key="e" * 40, digest="f" * 40))):
            known.remember(one, one.stat(), time.time_ns() + RACY_NS, facts)
    with KnownFiles(tmp_path / "known") as known:
        assert known.forget([FACTS.key, "g" * 40], dry_run=True) == 1
        assert known.by_digest(file, FACTS.digest) == FACTS
        assert known.forget([FACTS.key, "g" * 40]) == 1
        assert known.by_digest(file, FACTS.digest) is None
        assert known.by_digest(other, "f" * 40) is not None
    content = (tmp_path / "known").read_bytes()
    assert b"a.png" not in content
    assert FACTS.key.encode() not in content


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(b"abc")
    remembered(tmp_path / "known", odd)
    with KnownFiles(tmp_path / "known") as known:
        assert known.by_status(odd, odd.stat()) == FACTS


def test_no_flipped_bit_makes_another_picture_of_a_file(tmp_path: Path, file: Path) -> None:
    status = remembered(tmp_path / "known", file)
    sound = (tmp_path / "known").read_bytes()
    # All of the row, which SQLite writes at the end of a page, and of the file's head.
    row = sound.index(b"dddddddd")
    places = [*range(0, 100), *range(row - 150, min(row + 220, len(sound)))]
    answers = set()
    for place in places:
        data = bytearray(sound)
        data[place] ^= 1 << place % 8
        (tmp_path / "flipped").write_bytes(data)
        with KnownFiles(tmp_path / "flipped") as known:
            answers.add(known.by_status(file, status))
            answers.add(known.by_digest(file, FACTS.digest))
    assert answers == {None, FACTS}
