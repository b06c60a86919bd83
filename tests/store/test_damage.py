"""Whatever byte is flipped, wherever a file is cut: an error, never a wrong number."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from depot_world import CLIP, dump, fill, keys_of, vectors

from deponij.store import atomic
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.items import Items, ItemWriter
from deponij.store.shard import row_checksums
from deponij.store.upkeep import inspection as upkeep
from deponij.store.view import View, write_view

ROOT = Path(__file__).resolve().parents[2]


def damaged(raw: bytes, every: int) -> Iterator[bytes]:
    """Copies with one byte flipped, in one bit and in all, and copies that are cut off."""
    for place in range(0, len(raw), every):
        for mask in (0x01, 0xFF):
            yield raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]
    for length in range(0, len(raw), max(1, len(raw) // 20)):
        yield raw[:length]


def outcomes(path: Path, every: int, read: Callable[[], object]) -> tuple[int, int]:
    """(errors, unharmed readings) over all damages; any other reading or error fails the test."""
    raw, right = path.read_bytes(), read()
    n_errors = n_unharmed = 0
    for bad in damaged(raw, every):
        path.write_bytes(bad)
        try:
            assert read() == right
            n_unharmed += 1
        except StoreError:
            n_errors += 1
    path.write_bytes(raw)
    assert read() == right
    return n_errors, n_unharmed


def test_a_shard(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(4))
    path = next((tmp_path / "depot").glob("*/*.h5"))
    keys = keys_of(range(4))

    def read() -> bytes:
        return store.read(keys, CLIP, ["embedding", "checksums"])["embedding"].tobytes()

    n_errors, n_unharmed = outcomes(path, 7, read)
    assert n_errors > n_unharmed  # what is not read (the keys' own dataset) harms nobody

    raw = path.read_bytes()
    for bad in damaged(raw, 61):
        path.write_bytes(bad)
        assert list(upkeep.verify(store).damaged) == [store.sidecars[0].name]
    path.unlink()
    assert upkeep.verify(store).damaged == {store.sidecars[0].name: "the file is missing"}
    with pytest.raises(StoreError, match="has lost its file"):
        store.read(keys, CLIP)


def test_a_sidecar(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path / "depot", create=True), range(4))
    path = next((tmp_path / "depot").glob("*/*.json"))

    def read() -> object:
        found = dump(FeatureStore(tmp_path / "depot"))
        if not found:
            raise StoreError("counted as unknown")
        return found

    n_errors, n_unharmed = outcomes(path, 7, read)
    assert n_errors > 100 > n_unharmed
    path.write_bytes(path.read_bytes()[:-30])
    store = FeatureStore(tmp_path / "depot")
    assert list(store.damaged) == [f"{CLIP.fingerprint}/{path.stem}"]
    assert fill(store, range(4)) == 4


def test_shards_that_changed_places(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(8))
    first, second = sorted((tmp_path / "depot").glob("*/*.h5"))
    assert first.stat().st_size == second.stat().st_size
    shutil.copy(first, second)
    with pytest.raises(StoreError, match="is not the shard that its sidecar describes"):
        store.read(keys_of(range(8)))
    second.with_suffix(".json").write_bytes(first.with_suffix(".json").read_bytes())
    assert "it was renamed" in next(iter(FeatureStore(tmp_path / "depot").damaged.values()))


def _view(path: Path) -> None:
    keys = keys_of(range(5))
    rows = vectors(keys)
    write_view(
        path,
        identity=CLIP,
        backbone="clip",
        ids=[f"photo {n}.jpg#0" for n in range(5)],
        keys=keys,
        checksums=row_checksums({"embedding": rows}, 5),
        arrays={"embedding": rows},
        columns={"text": list("abcde")},
        failures=[("photo 9.jpg#0", "cut off")],
    )


def test_a_view(tmp_path: Path) -> None:
    path = tmp_path / "view.h5"
    _view(path)

    def read() -> object:
        view = View(path)
        texts = (view.backbone, view.identity, view.failures, view.columns["text"].tolist())
        return view.ids.tolist(), view.keys.tolist(), view.embedding.tobytes(), texts

    n_errors, n_unharmed = outcomes(path, 7, read)
    assert n_errors > 10 * n_unharmed


def _items(path: Path) -> None:
    schema = pa.schema([("label", pa.string()), ("area_px", pa.float64())])
    with ItemWriter(path, schema) as writer:
        for number in range(6):
            writer.add(
                content=bytes([number]) * 20,
                item_id=f"i{number}",
                key=keys_of([number])[0],
                image_id="photo",
                metadata={"label": "ab"[number % 2], "area_px": number / 2},
            )


def test_items(tmp_path: Path) -> None:
    _items(tmp_path / "items")

    def read() -> object:
        items = Items(tmp_path / "items")
        return items.table().to_pylist(), list(items.contents(range(6)))

    n_errors, n_unharmed = outcomes(tmp_path / "items" / "items-00000.parquet", 13, read)
    assert n_errors > n_unharmed
    outcomes(tmp_path / "items" / "_items.json", 7, read)


def test_items_of_which_a_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.store.items.SHARD_BYTES", 40)
    monkeypatch.setattr("deponij.store.items.GROUP_BYTES", 40)
    _items(tmp_path / "items")
    assert len(list((tmp_path / "items").glob("*.parquet"))) == 3
    assert len(Items(tmp_path / "items")) == 6
    (tmp_path / "items" / "items-00002.parquet").unlink()
    with pytest.raises(StoreError, match=r"items-00002.parquet is missing"):
        Items(tmp_path / "items")


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "split.parquet"
    atomic.write_table(path, pa.table({"item_id": ["a", "b"], "part": ["train", None]}))
    start, stop = 4, pq.ParquetFile(path).metadata.row_group(0).column(0).total_compressed_size
    raw = path.read_bytes()
    for place in range(start, stop):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x01]) + raw[place + 1 :])
        try:
            assert atomic.read_table(path).to_pylist()[1] == {"item_id": "b", "part": None}
        except StoreError:
            continue
    path.write_bytes(raw[:-9])
    with pytest.raises(StoreError, match="is damaged or not a Parquet file"):
        atomic.read_table(path)


def test_damage_is_set_aside_and_computed_again(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(12))
    before = dump(store)
    shards = sorted((tmp_path / "depot").glob("*/*.h5"))
    bad = bytearray(shards[0].read_bytes())
    bad[len(bad) // 2] ^= 1
    shards[0].write_bytes(bad)
    sidecar = shards[1].with_suffix(".json")
    sidecar.write_bytes(sidecar.read_bytes()[:50])
    store = FeatureStore(tmp_path / "depot")
    report = upkeep.verify(store)
    assert (len(report.damaged), report.n_rows, report.n_rows_lost, report.is_whole) == (2, 4, 4, False)
    assert upkeep.verify(store, repair=True).is_whole
    assert upkeep.verify(store).damaged == {}
    aside = sorted(p.name for p in (tmp_path / "depot" / "damaged").rglob("*.*") if p.is_file())
    assert aside == sorted(p.with_suffix(e).name for p in shards[:2] for e in (".h5", ".json"))
    assert bytes(bad) in [p.read_bytes() for p in (tmp_path / "depot" / "damaged").rglob("*.h5")]
    assert fill(store, range(12)) == 8
    assert dump(store) == before


def test_nothing_here_can_be_unpickled() -> None:
    forbidden = [
        r"\b(import|from)\s+(cloudpickle|dill|joblib|shelve)\b",
        r"\bpickle\.loads?\(|\bUnpickler\b|\bfrom pickle import (?!UnpicklingError\b)",
        r"allow_pickle\s*=\s*True",
        r"\bread_pickle\b",
        r"\btorch\.load\((?![^)]*weights_only=True)",
    ]
    files = [
        path
        for room in ("store", "pipeline", "sample", "project", "stages", "services", "commands")
        for path in (ROOT / room).rglob("*.py")
    ]
    files.append(ROOT / "cli.py")
    assert len(files) > 20
    for path in files:
        text = path.read_text()
        for pattern in forbidden:
            assert re.search(pattern, text) is None, f"{path} matches {pattern}"
