"""Maps read whole and as windows: expected values are the arrays that were written, cut by NumPy."""

import io
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from depot_world import keys_of
from maps_world import INPUT_PX, PYRAMID, SHAPES, ids_of, maps_of, write_maps

from deponij.store import hdf5, shard
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, UsageError
from deponij.store.reading import MapReader, Wanted, Window
from deponij.store.upkeep import tidying
from deponij.store.view import View, write_view

N = 10
MIXED = [7, 0, 3, 7, 9, 1]


@pytest.fixture
def view(tmp_path: Path) -> View:
    return write_maps(tmp_path, range(N))


@pytest.fixture
def reader(view: View) -> MapReader:
    return MapReader(view)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == np.float16 and np.array_equal(found[name], values)
        for name, values in expected.items()
    )


def cut(maps: dict[str, np.ndarray], windows: list[Window]) -> dict[str, np.ndarray]:
    """By hand: strides 4, 8, 16 and 32 have 8, 4, 2 and 1 cells for one of the coarsest."""
    found = {}
    for (name, values), factor in zip(maps.items(), (8, 4, 2, 1), strict=True):
        found[name] = np.stack(
            [
                one[
                    :,
                    window.top * factor : (window.top + window.height) * factor,
                    window.left * factor : (window.left + window.width) * factor,
                ]
                for one, window in zip(values, windows, strict=True)
            ]
        )
    return found


def test_levels(reader: MapReader) -> None:
    assert [(one.name, one.channels, one.height, one.width) for one in reader.levels] == [
        (name, *shape) for name, shape in SHAPES.items()
    ]
    assert [one.stride_px for one in reader.levels] == [4, 8, 16, 32]
    assert reader.input_px == INPUT_PX
    assert reader.whole_cells == (11, 15)
    assert len(reader) == N


@pytest.mark.parametrize("heights", [(90, 45, 23, 12), (90, 45, 22, 11)])
@pytest.mark.parametrize("width_px", [480, 360])
def test_stages_have_strides_that_do_not_tile_the_side(
    tmp_path: Path, heights: tuple[int, ...], width_px: int
) -> None:
    """Of an EfficientNet, which pads, and a ConvNeXt, which cuts off; a window begins where its pixels do."""
    widths = [-(-width_px // stride) for stride in (4, 8, 16, 32)]
    shapes = {f"stage{i}": (1, *size) for i, size in enumerate(zip(heights, widths, strict=True), start=1)}
    reader = MapReader(
        write_maps(tmp_path, range(2), kind="dense@4", shapes=shapes, input_px=(360, width_px))
    )
    assert [one.stride_px for one in reader.levels] == [4, 8, 16, 32]
    found = reader.read(["item1"], [Window(2, 3, 4, 5)])
    wanted = cut(maps_of([1], shapes), [Window(2, 3, 4, 5)])
    assert same(found, wanted) and found["stage2"].shape == (1, 1, 16, 20)


def test_a_grid_of_patches_has_their_side(tmp_path: Path) -> None:
    shapes = {"block10": (3, 16, 20), "block11": (3, 16, 20)}
    view = write_maps(tmp_path, range(1), kind="dense@2", shapes=shapes, input_px=(16 * 14, 20 * 14))
    assert [(one.name, one.stride_px) for one in MapReader(view).levels] == [("block10", 14), ("block11", 14)]


def test_whole_maps_in_the_order_asked_for(reader: MapReader) -> None:
    assert same(reader.read(ids_of(MIXED)), maps_of(MIXED))
    assert {name: values.shape for name, values in reader.read([]).items()} == {
        name: (0, *shape) for name, shape in SHAPES.items()
    }


def test_windows(reader: MapReader) -> None:
    rng = np.random.default_rng(0)
    windows = [Window(int(rng.integers(0, 8)), int(rng.integers(0, 11)), 4, 5) for _ in MIXED]
    assert same(reader.read(ids_of(MIXED), windows), cut(maps_of(MIXED), windows))


def test_a_window_ends_where_the_level_ends(reader: MapReader) -> None:
    found = reader.read(["item2"], [Window(8, 12, 4, 4)])
    assert {name: values.shape[2:] for name, values in found.items()} == {
        "stride4": (90 - 64, 120 - 96),
        "stride8": (45 - 32, 60 - 48),
        "stride16": (22 - 16, 30 - 24),
        "stride32": (11 - 8, 15 - 12),
    }


def test_windows_of_several_sizes_or_outside_are_refused(reader: MapReader) -> None:
    with pytest.raises(UsageError, match=r"16x16 and 24x16 cells\. Within 11x15 cells"):
        reader.read(["item1", "item2"], [Window(0, 0, 2, 2), Window(0, 0, 3, 2)][::-1])
    with pytest.raises(UsageError, match="has nothing of stride16, which has 22x30 cells"):
        reader.read(["item1"], [Window(11, 0, 2, 2)])
    with pytest.raises(UsageError, match="has nothing of"):
        reader.read(["item1"], [Window(-1, 0, 2, 2)])
    with pytest.raises(UsageError, match="2 ids, but 1 windows"):
        reader.read(["item1", "item2"], [Window(0, 0, 2, 2)])


def test_tiles() -> None:
    """About 128 KiB, by hand (22, 6 and 2 of them).

    A ConvNeXt-B at 360 x 480 px has 2.8 MB at stride 4, and 211 KB at stride 32.
    """
    assert hdf5.tile_of((128, 90, 120), 2) == (1, 128, 23, 20)
    assert hdf5.tile_of((512, 22, 30), 2) == (1, 512, 11, 10)
    assert hdf5.tile_of((640, 11, 15), 2) == (1, 640, 11, 8)


def test_a_window_reads_only_its_tiles(view: View, tmp_path: Path) -> None:
    """A bit is flipped in the left half of one map: whole maps tell, windows there too, and no others."""
    [path] = [one for one in (tmp_path / "depot").glob("*/*.h5") if _first_key(one) == keys_of([0])[0]]
    with h5py.File(path) as file:
        assert file["arrays/stride8"].chunks == (1, 80, 23, 30)  # 432,000 bytes: four tiles
    _flip(path, "stride8")
    reader = MapReader(view)
    with pytest.raises(StoreError, match="is damaged.*its row 0 does not fit its checksum"):
        reader.read(["item0"])
    with pytest.raises(StoreError, match="is damaged"):
        reader.read(["item0"], [Window(0, 0, 2, 2)])
    right = [Window(0, 8, 2, 2)]
    assert same(reader.read(["item0"], right), cut(maps_of([0]), right))
    assert same(reader.read(["item1", "item5"]), maps_of([1, 5]))


@pytest.mark.parametrize("fill", ["noise", "zeros", "ones", "one"])
@pytest.mark.parametrize("n", [2, 500, 512, 131_072, 131_074, 400_000])
def test_a_chunks_checksum_is_hdf5s(n: int, fill: str) -> None:
    """As HDF5 writes it behind the chunk."""
    values = np.random.default_rng(n).integers(0, 256, n, np.uint8)
    values = {"noise": values, "zeros": 0 * values, "ones": 0 * values + 255, "one": 0 * values}[fill]
    values[0] += fill == "one"
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.create_dataset("x", data=values, chunks=(n,), fletcher32=True)
        content = bytearray(file["x"].id.read_direct_chunk((0,))[1])
    assert len(content) == n + 4
    assert hdf5.is_whole_chunk(memoryview(content))
    assert hdf5.fletcher32(memoryview(content)[:n]) == int.from_bytes(content[n:], "little")
    content[n // 2] ^= 8
    assert not hdf5.is_whole_chunk(memoryview(content))


def _first_key(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file["keys"][0].decode())


def _flip(path: Path, name: str) -> None:
    """One bit of the first row's first tile."""
    with h5py.File(path) as file:
        chunk = file[f"arrays/{name}"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(content)


def test_all_of_a_picture_lies_side_by_side(view: View, tmp_path: Path) -> None:
    for path in (tmp_path / "depot").glob("*/*.h5"):
        places: dict[int, list[tuple[int, int]]] = {}
        with h5py.File(path) as file:
            for dataset in file["arrays"].values():
                chunks: list[h5py.h5d.StoreInfo] = []
                dataset.id.chunk_iter(chunks.append)
                for chunk in chunks:
                    places.setdefault(chunk.chunk_offset[0], []).append((chunk.byte_offset, chunk.size))
        ends = [
            (min(start for start, _ in row), max(start + size for start, size in row))
            for _, row in sorted(places.items())
        ]
        assert ends == sorted(ends)
        assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_equal_rows_make_equal_files(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        write_maps(tmp_path / name, range(4))
        [path] = (tmp_path / name / "depot").glob("*/*.h5")
        with h5py.File(path) as file:
            start = min(one.id.get_chunk_info(0).byte_offset for one in file["arrays"].values())
        contents.append(path.read_bytes()[start:])
    assert contents[0] == contents[1]


def test_batches_come_in_order_and_are_read_ahead(reader: MapReader) -> None:
    windows = [Window(1, 2, 3, 3)] * 2
    wanted: list[Wanted] = [(ids_of([n, n + 1]), windows if n % 2 else None) for n in range(8)]
    for ahead in (0, 1, 2, 5):
        found = list(reader.batches(wanted, ahead=ahead))
        assert len(found) == 8
        for number, maps in enumerate(found):
            expected = maps_of([number, number + 1])
            assert same(maps, cut(expected, windows) if number % 2 else expected)


def test_no_more_than_ahead_are_taken_up(reader: MapReader) -> None:
    taken = 0

    def wanted() -> Iterator[Wanted]:
        nonlocal taken
        for number in range(8):
            taken += 1
            yield ids_of([number]), None

    batches = reader.batches(wanted(), ahead=2)
    for number in range(4):
        next(batches)
        assert taken <= number + 3
    batches.close()


def test_an_error_arrives_in_the_place_of_its_batch(reader: MapReader) -> None:
    batches = reader.batches([(["item0"], None), (["nobody"], None), (["item1"], None)])
    assert same(next(batches), maps_of([0]))
    with pytest.raises(StoreError, match="'nobody'"):
        next(batches)
    assert "maps_0" not in {thread.name for thread in threading.enumerate()}


def test_a_generator_that_is_closed_ends_its_thread(reader: MapReader) -> None:
    batches = reader.batches((ids_of([n % N]), None) for n in range(1000))
    next(batches)
    assert "maps_0" in {thread.name for thread in threading.enumerate()}
    batches.close()
    assert "maps_0" not in {thread.name for thread in threading.enumerate()}


def test_what_is_missing_is_named_with_how_it_is_had(view: View, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds keys only.*FeatureStore"):
        MapReader(View(view.path))
    shutil.rmtree(tmp_path / "depot")
    empty = FeatureStore(tmp_path / "depot", create=True)
    with pytest.raises(
        StoreError,
        match=r"lacks the maps of 10 of 10 .* the first: 'item0'\..*depot merge.*--kind pyramid@4 --input-px 360 480 ",
    ):
        MapReader(View(view.path, depot=empty))


def test_a_depot_that_was_opened_before_the_rows_came_has_them(tmp_path: Path) -> None:
    before = FeatureStore(tmp_path / "depot", create=True)
    view = write_maps(tmp_path, range(N))
    assert same(MapReader(View(view.path, depot=before)).read(ids_of(MIXED)), maps_of(MIXED))


def test_a_view_of_vectors_has_no_maps(view: View, tmp_path: Path) -> None:
    from depot_world import CLIP

    path = tmp_path / "vectors.h5"
    write_view(
        path,
        identity=CLIP,
        backbone="tiny",
        ids=["a"],
        keys=keys_of([0]),
        checksums=np.zeros(1, np.uint32),
        arrays={"embedding": np.zeros((1, 2), np.float32)},
    )
    with pytest.raises(StoreError, match=r"holds itself: use read\(ids\)"):
        MapReader(View(path, depot=view.depot))


def test_other_rows_than_the_views_are_refused(view: View, tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    other = view.checksums.copy()
    other[3] += 1
    write_view(
        path,
        identity=PYRAMID,
        backbone="tiny",
        ids=view.ids.tolist(),
        keys=view.keys.tolist(),
        checksums=other,
        arrays={},
    )
    reader = MapReader(View(path, depot=view.depot))
    for windows in (None, [Window(0, 0, 1, 1)]):
        with pytest.raises(StoreError, match="1 rows are not those .*'item3'"):
            reader.read(["item3"], windows)
        reader.read(["item4"], windows)


def test_it_goes_on_where_shards_are_compacted_meanwhile(reader: MapReader, tmp_path: Path) -> None:
    reader.read(["item0"])
    before = set((tmp_path / "depot").glob("*/*.h5"))
    tidying.compact(FeatureStore(tmp_path / "depot"))
    assert not before & set((tmp_path / "depot").glob("*/*.h5"))
    assert same(reader.read(ids_of(MIXED)), maps_of(MIXED))
    assert same(
        reader.read(ids_of(MIXED), [Window(0, 0, 2, 2)] * 6), cut(maps_of(MIXED), [Window(0, 0, 2, 2)] * 6)
    )


def test_places_that_were_kept_of_other_rows_are_looked_up_anew(
    tmp_path: Path, every_depot: Path, later: None
) -> None:
    """A folder that was restored from elsewhere may have a shard of the same name and size with its rows in other order."""
    view = write_maps(tmp_path, range(4))
    depot = FeatureStore(tmp_path / "depot")
    [name] = depot.shard_names()
    [file] = (tmp_path / "depot").glob("*/*.h5")
    size_bytes = file.stat().st_size
    shard.commit(depot.folder, name, PYRAMID, keys_of([3, 2, 1, 0]), maps_of([3, 2, 1, 0]), provenance={})
    assert file.stat().st_size == size_bytes
    reader = MapReader(View(view.path, depot=FeatureStore(tmp_path / "depot")))
    assert same(reader.read(ids_of([0, 3, 1])), maps_of([0, 3, 1]))


def test_rows_of_the_first_format_are_read(
    view: View, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As format 1 wrote them: several rows a chunk, one array behind the other."""

    def as_before(group: h5py.Group, maps: dict[str, np.ndarray]) -> None:
        for name, values in sorted(maps.items()):
            hdf5.write_array(group, name, values)

    monkeypatch.setattr(hdf5, "write_maps", as_before)
    reader = MapReader(write_maps(tmp_path / "old", range(N)))
    assert same(reader.read(ids_of(MIXED)), maps_of(MIXED))
    windows = [Window(2, 3, 4, 4)] * 6
    assert same(reader.read(ids_of(MIXED), windows), cut(maps_of(MIXED), windows))


def test_through_an_object_store(view: View, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "depot"), "/maps-depot", recursive=True)
    try:
        reader = MapReader(View(view.path, depot=FeatureStore("memory://maps-depot")))
        assert same(reader.read(ids_of(MIXED)), maps_of(MIXED))
        windows = [Window(2, 3, 4, 4)] * 6
        assert same(reader.read(ids_of(MIXED), windows), cut(maps_of(MIXED), windows))
    finally:
        memory.rm("/maps-depot", recursive=True)


def test_pickled_and_forked_readers_open_their_own_files(reader: MapReader) -> None:
    reader.read(["item0"])
    assert same(pickle.loads(pickle.dumps(reader)).read(["item2"]), maps_of([2]))
    child = os.fork()
    if child == 0:
        os._exit(0 if same(reader.read(["item1"]), maps_of([1])) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
