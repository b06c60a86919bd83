"""Tar shards: what `webdataset` reads of them, byte for byte, and what is damaged or hostile in them."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_made import noise

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.tars import expanded, samples
from deponij.store.errors import DataError, UsageError


def picture(number: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    noise(30, 20, number).save(buffer, kind)
    return buffer.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members(first: int, n: int) -> dict[str, bytes]:
    """Samples with a class by number, by name and in JSON, in turn; each third with a caption."""
    found: dict[str, bytes] = {}
    for k in range(first, first + n):
        found[f"set.v1/{k:03}.{'jpg' if k % 2 else 'png'}"] = picture(k, "JPEG" if k % 2 else "PNG")
        if k % 3 == 2:
            found[f"set.v1/{k:03}.json"] = json.dumps({"label": "elk", "meta": {"kind": k}}).encode()
        else:
            found[f"set.v1/{k:03}.cls"] = str(k).encode() if k % 3 else b"cat\n"
        if k % 3 == 0:
            found[f"set.v1/{k:03}.txt"] = f"picture {k}".encode()
    return found


def items_of(*patterns: Path | str, **options: Any) -> list[Any]:
    source = open_source("webdataset", {"shards": [str(one) for one in patterns], **options})
    items = list(source.items(workers=2))
    assert len(items) == source.n_items == len({one.item_id for one in items})
    return items


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")]
)
def test_keys_and_bytes_are_those_that_webdataset_reads(tmp_path: Path, name: str, mode: str) -> None:
    import webdataset

    path = shard(tmp_path / name, members(0, 7), mode)
    if not name.endswith("xz"):
        theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
        ours = list(samples(path))
        assert [one.key for one in ours] == [one["__key__"] for one in theirs]
        assert [one.picture for one in ours] == [one.get("jpg", one.get("png")) for one in theirs]
        assert [one.beside.get("cls") for one in ours] == [one.get("cls") for one in theirs]
    items = items_of(path)
    assert [one.content for one in items] == [picture(k, "JPEG" if k % 2 else "PNG") for k in range(7)]
    assert [one.item_id for one in items] == [f"{name}#set.v1/{k:03}" for k in range(7)]
    assert [one.metadata["label"] for one in items] == ["cat", "1", "elk", "cat", "4", "elk", "cat"]
    assert [one.metadata["caption"] for one in items][:4] == ["picture 0", None, None, "picture 3"]


def test_patterns_folders_and_parts(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 4)):
        for number in range(2):
            shard(tmp_path / f"{part}-{number:03}.tar", members(first + 2 * number, 2))
    by_pattern = items_of(tmp_path / "{train,val}-{000..001}.tar")
    assert by_pattern == items_of(tmp_path)
    assert [one.given for one in by_pattern] == ["train"] * 4 + ["val"] * 4
    assert by_pattern[3].metadata["shard"] == "train-001.tar"
    left = items_of(tmp_path, treat={"val-000": "skip"})
    assert [one.given for one in left] == ["train"] * 4 + ["val"] * 2
    with pytest.raises(UsageError, match="a shard is named twice"):
        items_of(tmp_path, tmp_path / "val-000.tar")
    with pytest.raises(DataError, match=r"train-002.tar does not exist"):
        items_of(tmp_path / "train-{000..002}.tar")
    with pytest.raises(DataError, match="no shards in"):
        (tmp_path / "none").mkdir()
        items_of(tmp_path / "none")


def test_braces() -> None:
    assert expanded("a{08..11}b") == ["a08b", "a09b", "a10b", "a11b"]
    assert expanded("{x,y}-{2..1}") == ["x-2", "x-1", "y-2", "y-1"]
    assert expanded("plain.tar") == ["plain.tar"]


def test_a_field_within_fields_is_the_label(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {k: v for k, v in members(0, 3).items() if not k.endswith(".cls")})
    assert [one.metadata["label"] for one in items_of(path, label_field="meta.kind")] == [None, None, "2"]
    assert [one.metadata["label"] for one in items_of(path, label_field="other")] == [None] * 3
    failed = items_of(path, label_field="meta")[2]
    assert "'meta' of its .json is no name or number" in failed.failure


def test_a_limit_reads_no_further_shard(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", members(0, 3))
    (tmp_path / "b.tar").write_bytes(b"never looked at" * 100)
    source = open_source("webdataset", {"shards": [str(tmp_path)], "limit": 2})
    assert [one.item_id for one in source.items()] == ["a.tar#set.v1/000", "a.tar#set.v1/001"]
    assert any("only a part, as asked (limit): 2 items" in one for one in source.notes)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def without_end(data: bytes) -> bytes:
    """The members alone, whole: the two blocks of zeros and the padding are gone."""
    return data.rstrip(b"\0") + b"\0" * (-len(data.rstrip(b"\0")) % 512)


def header_broken(data: bytes) -> bytes:
    """The name of the second sample's picture gets another letter, which its header's checksum tells."""
    place = data.index(b"set.v1/001.jpg")
    return data[:place] + b"X" + data[place + 1 :]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("damage", [cut(0.5), cut(0.7), without_end, header_broken])
def test_what_was_before_the_damage_counts(
    tmp_path: Path, damage: Callable[[bytes], bytes], mode: str
) -> None:
    path = shard(tmp_path / "a.tar", members(0, 9))
    data = damage(path.read_bytes())
    if mode == "w:gz":
        import gzip

        data = gzip.compress(data)
    path.write_bytes(data)
    items = items_of(path)
    *whole, rest = items
    assert rest.item_id == "a.tar#(the rest)"
    assert rest.failure.startswith(f"after {len(whole):,} samples: tar file")
    assert len(whole) < 9
    for number, one in enumerate(whole):
        assert one.failure is None
        assert one.content == picture(number, "JPEG" if number % 2 else "PNG")


def test_a_compressed_shard_that_is_cut_off(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar.gz", members(0, 9), "w:gz")
    path.write_bytes(path.read_bytes()[:-2000])
    *whole, rest = items_of(path)
    assert 0 < len(whole) < 9
    assert all(one.failure is None for one in whole)
    assert "damaged or cut off" in rest.failure


def test_no_tar_at_all_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a tar file" * 100)
    (one,) = items_of(tmp_path / "a.tar")
    assert one.failure.startswith("after 0 samples: tar file")


def test_hostile_members_are_names_only(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (
            ("../../escaped.png", tarfile.REGTYPE, ""),
            ("/etc/absolute.png", tarfile.REGTYPE, ""),
            ("link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "../../escaped.png"),
            ("device.png", tarfile.CHRTYPE, ""),
            ("folder.png", tarfile.DIRTYPE, ""),
            ("caf\udce9.png", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = picture(1) if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    items = {one.item_id: one.failure for one in items_of(path)}
    assert items["a.tar#../../escaped"] is None
    assert items["a.tar#/etc/absolute"] is None
    assert "is a link within the tar file" in items["a.tar#link"]
    assert "is a link within the tar file" in items["a.tar#hard"]
    assert "a.tar#caf\\xe9" in items
    assert len(items) == 5
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.pipeline.data.tars.MAX_MEMBER_BYTES", 100)
    (one,) = items_of(shard(tmp_path / "a.tar", {"a.png": picture(0)}))
    assert "at most 100 are read" in one.failure


def test_odd_samples(tmp_path: Path) -> None:
    odd = {
        "a.txt": b"no picture",
        "b.png": picture(1),
        "b.jpg": picture(2, "JPEG"),
        "c.png": picture(3),
        "c.cls": b"\xff\xfe",
        "d.png": picture(4),
        "d.json": b"{",
        "e.png": picture(5),
        "f.png": picture(6),
        "e.jpg": picture(7, "JPEG"),
    }
    source = open_source("webdataset", {"shards": [str(shard(tmp_path / "a.tar", odd))]})
    failures = [one.failure for one in source.items()]
    assert [one is None for one in failures] == [False, True, False, False, True, True, False]
    assert "holds no picture, only txt" in str(failures[0])
    assert "not in UTF-8" in str(failures[2])
    assert ".json cannot be read" in str(failures[3])
    assert "another sample of this key" in str(failures[6])
    assert any("beyond the first of their sample, left out: 1" in one for one in source.notes)
