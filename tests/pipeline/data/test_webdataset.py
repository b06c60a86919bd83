"""Tar shards: read as the webdataset library reads them, and what becomes of odd and damaged ones."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.item import Item
from deponij.project.frame.settings import RunOptions
from deponij.stages import items as items_stage
from deponij.store.errors import DataError, UsageError


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples(first: int, n: int) -> list[tuple[str, bytes]]:
    found = []
    for k in range(first, first + n):
        body = json.dumps({"width": 30 + k, "sharp": k % 2 == 0, "source": f"camera {k}", "boxes": [1, 2]})
        found += [
            (f"{k:06d}.png", png(k)),
            (f"{k:06d}.cls", str(k % 3).encode()),
            (f"{k:06d}.json", body.encode()),
        ]
    return found


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Of a member that may lie about its size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def sparse(name: str, data: bytes, size: int) -> bytes:
    """A member of GNU's old sparse kind (tar's manual, "Storing Sparse Files"): data at its begin, then a hole."""
    head = bytearray(header(name, len(data), tarfile.GNUTYPE_SPARSE))
    head[386:410] = b"%011o\0%011o\0" % (0, len(data))
    head[483:495] = b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + block(data)


WHOLE = header("1.png", len(png(1))) + block(png(1)) + header("2.png", len(png(2))) + block(png(2))
END = bytes(1024)


def items_of(*shards: Path, **options: Any) -> list[Item]:
    source = open_source("webdataset", {"shards": shards, **options})
    items = list(source.items(workers=2))
    assert len(items) == source.n_items
    return items


def test_the_library_reads_the_same(tmp_path: Path) -> None:
    """Keys, bytes and fields of `webdataset.WebDataset` on shards that `webdataset.TarWriter` wrote."""
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"data-{shard:03d}.tar")) as writer:
            for k in range(5 * shard, 5 * shard + 5):
                writer.write({"__key__": f"{k:06d}", "png": png(k), "cls": k % 3, "txt": f"picture {k}"})
    named = [str(tmp_path / f"data-{shard:03d}.tar") for shard in range(2)]
    theirs = list(webdataset.WebDataset(named, shardshuffle=False))
    items = items_of(tmp_path / "data-{000..001}.tar")
    assert [item.item_id.split("/")[-1] for item in items] == [one["__key__"] for one in theirs]
    assert [item.content for item in items] == [one["png"] for one in theirs]
    assert [item.metadata["label"] for item in items] == [one["cls"].decode() for one in theirs]
    assert [item.metadata["caption"] for item in items] == [one["txt"].decode() for one in theirs]
    assert items[0].item_id == "data-000.tar/000000"


def test_plain_values_of_the_json_are_columns(tmp_path: Path) -> None:
    source = open_source("webdataset", {"shards": [write(tmp_path / "a.tar", samples(0, 4))]})
    items = list(source.items())
    assert [str(one.type) for one in source.metadata_schema] == ["string", "bool", "string", "int64"]
    assert items[1].metadata == {"label": "1", "sharp": False, "source": "camera 1", "width": 31}
    assert any("boxes" in note for note in source.notes)
    named = items_of(tmp_path / "a.tar", label_field="source")
    assert [item.metadata["label"] for item in named] == [f"camera {k}" for k in range(4)]
    with pytest.raises(UsageError, match="no sample's JSON has a plain field 'kind'"):
        items_of(tmp_path / "a.tar", label_field="kind")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz"])
def test_zipped_shards(tmp_path: Path, name: str) -> None:
    items = items_of(write(tmp_path / name, samples(0, 3)))
    assert [item.failure for item in items] == [None] * 3


def test_folders_patterns_and_parts(tmp_path: Path) -> None:
    write(tmp_path / "train-0.tar", samples(0, 2))
    write(tmp_path / "val-0.tar", samples(2, 2))
    for shards in ([tmp_path], [tmp_path / "*.tar"]):
        assert [item.given for item in items_of(*shards)] == ["train", "train", "val", "val"]
    assert len(items_of(tmp_path, treat={"val-0": "skip"})) == 2
    with pytest.raises(UsageError, match="is named twice"):
        items_of(tmp_path, tmp_path / "val-0.tar")
    with pytest.raises(DataError, match="there are no shards at"):
        items_of(tmp_path / "data-*.tar")


def test_every_cut_is_told_and_no_sample_is_lost_before_it(tmp_path: Path) -> None:
    """`tarfile` takes a cut between members for the end, in silence."""
    path = write(tmp_path / "a.tar", samples(0, 3))
    content, whole = path.read_bytes(), items_of(path)
    with tarfile.open(path) as tar:
        ends = [one.offset_data + -(-one.size // 512) * 512 for one in tar]
    for cut in (*ends, *(end - 200 for end in ends), ends[2] + 100, ends[5] + 512):
        if cut < ends[0]:
            continue
        path.write_bytes(content[:cut])
        items = items_of(path)
        assert "damaged" in str(items[-1].failure) or "cut off" in str(items[-1].failure), cut
        n_before = sum(end <= cut for end in ends[2::3])
        kept = [item for item in items if item.failure is None]
        # The sample at the cut may be whole, and cannot be known to be.
        assert [(one.item_id, one.key) for one in kept] == [
            (one.item_id, one.key) for one in whole[: len(kept)]
        ]
        assert len(kept) >= n_before - 1


def test_a_flipped_header_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples(0, 3))
    with tarfile.open(path) as tar:
        header = [one.offset for one in tar][4]
    content = bytearray(path.read_bytes())
    content[header + 150] ^= 0xFF  # within its checksum
    path.write_bytes(bytes(content))
    items = items_of(path)
    assert "broken header" in str(items[-1].failure)


def test_a_damaged_gzip_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar.gz", samples(0, 40))
    path.write_bytes(path.read_bytes()[:-3000])
    items = items_of(path)
    assert items[-1].failure is not None
    assert items[0].failure is None


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 100, gzip.compress(b"no tar", mtime=0)])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="is not a readable tar file|no samples"):
        items_of(tmp_path / "a.tar")


def test_odd_samples_are_failures_of_their_own(tmp_path: Path) -> None:
    members = [
        ("1.cls", b"0"),  # no picture
        ("2.png", png(2)),
        ("2.json", b"{broken"),
        ("3.png", png(3)),
        ("3.json", b"[1]"),
        ("4.png", b"damaged"),
        ("5.png", png(5)),
        ("5.txt", b"\xff\xfe"),
        ("6.png", png(6)),
        ("2.png", png(7)),  # once more
        ("7.png", png(8)),
    ]
    items = {item.item_id: item.failure for item in items_of(write(tmp_path / "a.tar", members))}
    assert list(items) == [f"a.tar/{key}" for key in ("1", "2", "3", "4", "5", "6", "2#2", "7")]
    assert [key for key, failure in items.items() if failure is None] == ["a.tar/6", "a.tar/7"]
    for key, words in {
        "1": "has no picture; its fields: cls",
        "2": "JSON is damaged",
        "3": "must be an object",
        "5": "not UTF-8",
        "2#2": "several samples of the name",
    }.items():
        assert words in str(items[f"a.tar/{key}"])


def test_an_odd_value_costs_its_own_sample_at_most(tmp_path: Path) -> None:
    """Each of these ended the whole data set; what no column can be called is passed over."""
    bodies = {
        "1": rb'{"label": "cat", "share": 0.5, "id": 1}',
        "2": b'{"label": "cat", "share": 1%s, "id": 18446744073709551615}' % (b"0" * 400),
        "3": rb'{"label": "\ud800", "share": 2.5}',
        "4": rb'{"label": "dog", "share": 3, "w\ud800": 1, "\u0000q": 2}',
        "5": rb'{"label": "do\u0000g", "share": 4}',
    }
    members = [
        (f"{k}.{end}", data)
        for k, body in bodies.items()
        for end, data in (("png", png(int(k))), ("json", body))
    ]
    source = open_source("webdataset", {"shards": [write(tmp_path / "a.tar", members)]})
    done = items_stage.run(
        "webdataset",
        {"shards": [tmp_path / "a.tar"]},
        out=tmp_path / "items",
        run_options=RunOptions(workers=1),
    )
    assert (done.n_items, done.n_failed) == (5, 2)
    items = list(source.items())
    assert [item.failure is None for item in items] == [True, True, False, True, False]
    assert "the sample's label holds characters" in str(items[2].failure)
    assert [item.metadata["label"] for item in items] == ["cat", "cat", None, "dog", None]
    assert [item.metadata["id"] for item in items] == ["1", "18446744073709551615", None, None, None]
    assert items[1].metadata["share"] == "1" + "0" * 400
    assert any(r"passed over: \x00q, w\ud800" in note for note in source.notes)


def test_hostile_members_are_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name in ("../../escape.png", "/absolute.png", "good.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(1))
            tar.addfile(member, io.BytesIO(png(1)))
        for kind, name in (
            (tarfile.SYMTYPE, "link.png"),
            (tarfile.CHRTYPE, "device.png"),
            (tarfile.DIRTYPE, "folder.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    items = items_of(path)
    assert [item.item_id for item in items] == ["a.tar/../../escape", "a.tar/absolute", "a.tar/good"]
    assert [one.name for one in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_a_field_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.pipeline.data.adapters.webdataset.MAX_PICTURE_BYTES", 100)
    (item,) = items_of(write(tmp_path / "a.tar", [("1.png", png(1))]))
    assert "at most 100 are read" in str(item.failure)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize(
    "hostile",
    [
        header("x", 2**62, tarfile.XHDTYPE),
        header("x", 2**80, tarfile.XGLTYPE),
        header("x", 2**62, tarfile.GNUTYPE_LONGNAME),
        header("x", 2 << 20, tarfile.XHDTYPE) + bytes(2 << 20) + WHOLE,
        (header("x", 4, tarfile.GNUTYPE_LONGNAME) + block(b"abc\0")) * 3000 + WHOLE,
        header("x", -1024) + WHOLE,
    ],
    ids=["extension", "global", "long name", "too long", "chain", "negative"],
)
def test_headers_are_read_up_to_a_size(tmp_path: Path, name: str, hostile: bytes) -> None:
    """Whatever size a header states, and however many stand before one member."""

    def written(content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        return path

    with pytest.raises(DataError, match="not a readable tar file"):
        items_of(written(hostile + END))
    first, rest = items_of(written(WHOLE + hostile + END))
    assert (first.item_id, first.failure) == ("a.tar/1".replace("a.tar", name), None)
    assert "damaged after 1 samples" in str(rest.failure)


def test_a_member_with_holes_is_a_failure_of_its_sample(tmp_path: Path) -> None:
    """One of a kilobyte may state any size: it is not inflated."""
    path = tmp_path / "a.tar"
    path.write_bytes(sparse("0.png", block(png(0)), 500 << 20) + WHOLE + END)
    with tarfile.open(path) as tar:
        assert next((one.issparse(), one.size) for one in tar) == (True, 500 << 20)
    items = items_of(path)
    assert "stored with holes" in str(items[0].failure)
    assert [item.failure for item in items[1:]] == [None, None]


@pytest.mark.parametrize("first", ["b", "a#2"])
def test_an_id_that_a_second_sample_gets_is_nobody_elses(tmp_path: Path, first: str) -> None:
    last = "a#2" if first == "b" else "b"
    names = [first, "a", "c", "a", "d", "a", last]
    items = items_of(write(tmp_path / "a.tar", [(f"{name}.png", png(k)) for k, name in enumerate(names)]))
    assert len({item.item_id for item in items}) == len(names)
    assert [item.failure is None for item in items] == [True, True, True, False, True, False, True]
    assert [items[0].item_id, items[1].item_id] == [f"a.tar/{first}", "a.tar/a"]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = tmp_path / "a.tar"
    with tarfile.open(
        path, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT
    ) as tar:
        member = tarfile.TarInfo(f"{name}.png")
        member.size = len(png(1))
        tar.addfile(member, io.BytesIO(png(1)))
    assert [item.item_id for item in items_of(path)] == ["a.tar/caf\\xe9"]


def test_a_limit_reads_no_further_shard(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("1.png", png(1)), ("2.png", png(2)), ("3.png", png(3))])
    (tmp_path / "b.tar").write_bytes(b"never looked at" * 100)
    source = open_source("webdataset", {"shards": [tmp_path], "limit": 2})
    assert [item.item_id for item in source.items()] == ["a.tar/1", "a.tar/2"]
    assert any("only a part, as asked (limit): 2 items, the first" in one for one in source.notes)
