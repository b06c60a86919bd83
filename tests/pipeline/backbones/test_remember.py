"""What is remembered comes back, follows the file it belongs to, and is rebuilt when damaged."""

import hashlib
import os
from pathlib import Path

import pytest

from deponij.pipeline.backbones import remember


def memory_files() -> list[Path]:
    return sorted((remember.cache_folder() / "memory").rglob("*.json"))


def test_round_trip_and_topics() -> None:
    remember.remember("topic", {"b": 1, "a": [1, 2]}, {"answer": [42, None]})
    assert remember.recall("topic", {"a": [1, 2], "b": 1}) == {"answer": [42, None]}
    assert remember.recall("topic", {"a": [1, 2], "b": 2}) is None
    assert remember.recall("other", {"b": 1, "a": [1, 2]}) is None


def test_computed_once() -> None:
    calls: list[int] = []
    for _ in range(2):
        assert remember.remembered("topic", "key", lambda: calls.append(1) or "answer") == "answer"
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": "another", "value": 1}', '{"value": 1}'])
def test_damaged_memory_is_rebuilt(damage: str) -> None:
    remember.remember("topic", "key", "right")
    (path,) = memory_files()
    path.write_text(damage)
    assert remember.recall("topic", "key") is None
    assert remember.remembered("topic", "key", lambda: "again") == "again"
    assert remember.recall("topic", "key") == "again"


def test_binary_damage_is_rebuilt() -> None:
    remember.remember("topic", "key", "right")
    (path,) = memory_files()
    path.write_bytes(b"\xff\xfe\x00")
    assert remember.recall("topic", "key") is None


def test_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert remember.sha256_of_file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")  # same size: the time tells
    os.utime(path, ns=(1, 1))
    assert remember.sha256_of_file(path) == hashlib.sha256(b"two").hexdigest()
    path.write_bytes(b"three")
    os.utime(path, ns=(1, 1))  # same time: the size tells
    assert remember.sha256_of_file(path) == hashlib.sha256(b"three").hexdigest()


def test_hash_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = remember.sha256_of_file(path)
    monkeypatch.setattr(remember, "_sha256", lambda _: pytest.fail("read again"))
    assert remember.sha256_of_file(path) == first


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("DEPONIJ_CACHE", str(blocked))
    assert remember.remembered("topic", "key", lambda: "answer") == "answer"


def test_cache_folder_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPONIJ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert remember.cache_folder() == Path("/somewhere/deponij")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert remember.cache_folder() == Path.home() / ".cache" / "deponij"


def test_an_answer_that_cannot_be_filed_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    remember.remember("topic", "key", "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    remember.remember("topic", "key", "new")
    assert len(list((remember.cache_folder() / "memory" / "topic").iterdir())) == 1
    assert remember.recall("topic", "key") == "old"
