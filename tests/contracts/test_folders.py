"""One contract for every place where a depot can lie."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_world

from deponij.store.errors import StoreError
from deponij.store.folders import Folder, LocalFolder, open_folder
from deponij.store.remote_folder import RemoteFolder


@pytest.fixture(params=["local", "memory", "s3", "s3 without conditions"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    if request.param == "local":
        yield LocalFolder(tmp_path / "depot")
    elif request.param == "memory":
        yield RemoteFolder(f"memory://{uuid.uuid4().hex}")
    else:
        with s3_world.serving(monkeypatch) as server:
            if request.param != "s3":
                server.fault = lambda method, path: s3_world.unconditional
                monkeypatch.setattr("deponij.store.agreeing.SETTLE_S", 0.02)
            yield RemoteFolder(server.depot)


def test_nothing_is_there_at_first(folder: Folder) -> None:
    assert folder.names() == []
    assert folder.read_many(["a.json"]) == {}
    for ask in (folder.read, folder.size_bytes, folder.open):
        with pytest.raises(FileNotFoundError):
            ask("a.json")
    folder.delete("a.json")


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write("f/a.json", b"first")
    folder.write("f/a.json", b"second")
    folder.write("top.json", b"")
    assert folder.names() == ["f/a.json", "top.json"]
    assert folder.names("f") == ["f/a.json"]
    assert folder.names("g") == []
    assert folder.read("f/a.json") == b"second"
    assert folder.size_bytes("f/a.json") == 6
    assert folder.read_many(["f/a.json", "gone", "top.json"]) == {"f/a.json": b"second", "top.json": b""}
    assert 0 <= folder.age_s("f/a.json") < 60


def test_a_name_is_given_once(folder: Folder) -> None:
    assert folder.create("f/a.json", b"first")
    assert not folder.create("f/a.json", b"second")
    assert folder.read("f/a.json") == b"first"
    folder.delete("f/a.json")
    assert folder.create("f/a.json", b"third")
    assert folder.names() == ["f/a.json"]


def test_empty_files_are_read(folder: Folder) -> None:
    folder.write("a", b"")
    assert folder.read("a") == b""
    assert folder.open("a").read() == b""
    assert folder.read_many(["a"]) == {"a": b""}


def test_files_open_with_seek(folder: Folder) -> None:
    folder.write("a", b"0123456789")
    with folder.open("a") as file:
        file.seek(4)
        assert file.read(3) == b"456"


def test_a_file_appears_only_when_published(folder: Folder) -> None:
    part = folder.staging("f/b.h5")
    part.write_bytes(b"half")
    assert "f/b.h5" not in folder.names()
    part.write_bytes(b"whole")
    folder.publish(part, "f/b.h5")
    assert folder.read("f/b.h5") == b"whole"
    assert folder.names() == ["f/b.h5"]
    assert not part.exists()


def test_copies_replace_and_outlive_the_original(folder: Folder) -> None:
    folder.write("f/a", b"one")
    folder.write("damaged/f/a", b"older")
    folder.copy("f/a", "damaged/f/a")
    folder.delete("f/a")
    assert folder.names() == ["damaged/f/a"]
    assert folder.read("damaged/f/a") == b"one"
    with pytest.raises(FileNotFoundError):
        folder.copy("f/a", "damaged/f/b")


def test_publishing_what_was_not_built_is_an_error(folder: Folder) -> None:
    part = folder.staging("f/c.h5")
    with pytest.raises(StoreError, match=r"cannot write .*f/c\.h5"):
        folder.publish(part, "f/c.h5")


STAGES = """
import sys, time
from deponij.store.remote_folder import RemoteFolder
folder = RemoteFolder("memory://depot")
folder.staging("f/shard.h5").write_bytes(b"half")
print("staged", flush=True)
sys.stdin.read()
"""


def test_what_killed_processes_had_not_uploaded_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def started() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", STAGES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None and process.stdout.readline() == "staged\n"
        return process

    with started() as killed, started() as lives:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        part = RemoteFolder("memory://depot").staging("f/other.h5")
        assert [one.read_bytes() for one in tmp_path.rglob("shard.h5*")] == [b"half"]
        lives.communicate("")
    assert not part.exists()
    assert list(tmp_path.rglob("shard.h5*")) == []


def test_a_machine_without_room_for_temporary_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    folder = RemoteFolder(f"memory://{uuid.uuid4().hex}")
    folder.write("a", b"which needs none")
    with pytest.raises(
        StoreError, match=r"cannot write a temporary file for memory://.*/b\.h5: No such file"
    ):
        folder.staging("b.h5")


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(StoreError, match="cannot open the depot nosuch://x"):
        open_folder("nosuch://x")


def test_a_local_url_and_a_relative_path_are_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    relative = open_folder("depot")
    monkeypatch.chdir(tmp_path / "elsewhere")
    relative.write("a", b"x")
    assert open_folder(f"file://{tmp_path}/depot").read("a") == b"x"
    assert open_folder(tmp_path / "elsewhere" / ".." / "depot").read("a") == b"x"


def test_what_cannot_be_reached_is_not_taken_for_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RemoteFolder(f"memory://{uuid.uuid4().hex}")
    folder.write("a.json", b"x")

    def silent(path: str, **_: object) -> bytes:
        raise TimeoutError("no answer")

    monkeypatch.setattr(folder._fs, "cat_file", silent)
    with pytest.raises(StoreError, match="no answer"):
        folder.read_many(["a.json"])
