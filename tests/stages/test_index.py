"""The index of a view: what is in it, how it follows its items, what is said of damage."""

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_world import call
from learning_world import World, identity, make_world, picture, write_features, write_items, write_split
from under_dvc import under_dvc

from deponij.pipeline.likeness.pairs import Thresholds
from deponij.project.frame.settings import check
from deponij.project.indexes import Index
from deponij.stages import index as stage
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.index_folder import CARD, read_card
from deponij.store.items import Items
from deponij.store.keys import key_of_bytes
from deponij.store.view import View

APPROXIMATE = ("hnsw", "ivf", "ivfpq")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def make(world: World, out: Path, **params: object) -> stage.IndexReport:
    return stage.run(
        stage.IndexParams(**params),
        features=world.features,
        items=world.items,
        out=out,
        splits={"random": world.split},
        threads=1,
    )


def brute(view: View, vector: np.ndarray) -> dict[str, float]:
    """Item id -> cosine, by NumPy in float64."""
    rows = view.embedding.astype(np.float64)
    cosines = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
    return dict(zip(view.ids.tolist(), cosines.tolist(), strict=True))


def test_an_exact_index_answers_like_brute_force_with_what_is_known_of_each_item(
    world: World, tmp_path: Path
) -> None:
    report = make(world, tmp_path / "index")
    view, items = View(world.features), Items(world.items)
    assert (report.kind, report.n, report.dim, report.n_rebuilt) == ("flat", len(view), 16, len(view))
    assert report.recall_at_10 == 1.0 and report.n_queries == len(view) // 10
    index = Index.open(tmp_path / "index")
    vector = np.random.default_rng(0).normal(size=16)
    hits = index.search(vector, len(view) + 5)
    expected = brute(view, vector)
    assert {hit.item_id: hit.score for hit in hits} == pytest.approx(expected, abs=2e-6)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    rows = dict(zip(items.ids, items.table(["key", "label", "image_id"]).to_pylist(), strict=True))
    parts = dict(zip(world.ids, world.parts, strict=True))
    for hit in hits:
        known = rows[hit.item_id]
        record = hit.to_json()
        assert list(record)[:3] == ["item_id", "key", "score"]
        assert (hit.key, record["label"], record["image_id"]) == tuple(known.values())
        assert record["split_random"] == parts[hit.item_id]
        assert "failure" not in record and "vector_row" not in record
    json.dumps([hit.to_json() for hit in hits], allow_nan=False)


@pytest.mark.parametrize(
    ("where", "n_least"),
    [
        ("true", 100),
        ("label = 'Can'", 20),
        ("split_random = 'test'", 20),
        ("label IS NULL", 2),
        ("item_id = 'photo3.jpg#1'", 1),
    ],
)
def test_filters_choose_before_the_search(world: World, tmp_path: Path, where: str, n_least: int) -> None:
    make(world, tmp_path / "index")
    index, view = Index.open(tmp_path / "index"), View(world.features)
    vector = np.random.default_rng(1).normal(size=16)
    label_of, part_of = (
        dict(zip(world.ids, world.labels, strict=True)),
        dict(zip(world.ids, world.parts, strict=True)),
    )
    counts = {
        "true": lambda i: True,
        "label = 'Can'": lambda i: label_of[i] == "Can",
        "split_random = 'test'": lambda i: part_of[i] == "test",
        "label IS NULL": lambda i: label_of[i] is None,
        "item_id = 'photo3.jpg#1'": lambda i: i == "photo3.jpg#1",
    }[where]
    left = {item_id: score for item_id, score in brute(view, vector).items() if counts(item_id)}
    assert len(left) >= n_least and index.count(where) == len(left)
    hits = index.search(vector, 12, where=where)
    best = sorted(left.values(), reverse=True)[:12]
    np.testing.assert_allclose([hit.score for hit in hits], best, atol=2e-6)
    assert all(counts(hit.item_id) for hit in hits)
    assert index.search(vector, 12, where=where) == hits


def test_a_view_is_searched_in_three_lines(world: World) -> None:
    index = Index.of(View(world.features), Items(world.items))
    hits = index.search(index.vectors([world.ids[3]])[0], top=5)
    assert hits[0].item_id == world.ids[3] and hits[0].score == pytest.approx(1)
    others = index.search(index.vectors([world.ids[3]])[0], top=5, leave_out=[world.ids[3]])
    assert [hit.item_id for hit in others[:4]] == [hit.item_id for hit in hits[1:]]


def test_equal_items_give_equal_bytes(world: World, tmp_path: Path) -> None:
    make(world, tmp_path / "a")
    make(world, tmp_path / "b")
    make(world, tmp_path / "b")
    a, b = read_card(tmp_path / "a"), read_card(tmp_path / "b")
    assert (a.vectors, a.rows) == (b.vectors, b.rows)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == sorted([CARD, b.vectors.name, b.rows.name])


def test_everybodys_tools_open_it(world: World, tmp_path: Path) -> None:
    make(world, tmp_path / "index")
    (vectors,) = (tmp_path / "index").glob("*.faiss")
    (rows,) = (tmp_path / "index").glob("*.parquet")
    plain, table = faiss.read_index(str(vectors)), pq.read_table(rows)
    view = View(world.features)
    item_id = world.ids[7]
    row = table["vector_row"].to_pylist()[table["item_id"].to_pylist().index(item_id)]
    own = view.read([item_id])[0]
    np.testing.assert_allclose(plain.reconstruct(row), own / np.linalg.norm(own), atol=1e-6)


def test_a_query_of_another_model_is_refused(world: World, tmp_path: Path) -> None:
    make(world, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    index.accept(identity("embedding"))
    index.accept(identity("text"))
    with pytest.raises(IdentityError, match=r"weights: w+… ?w* against v+|weights: "):
        index.search(np.ones(16), identity=identity("text", "v" * 64))
    with pytest.raises(IdentityError, match="kind: embedding against tokens@1"):
        index.accept(identity("tokens@1"))
    with pytest.raises(IdentityError, match="width 16, got 8"):
        index.search(np.ones(8))


class Changing:
    """Items that come and go, and their view."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(12, 8))
        self.vectors = (centres[np.arange(400) % 12] + 0.3 * rng.normal(size=(400, 8))).astype(np.float32)

    def write(self, numbers: list[int], label: str = "x", salt: int = 0) -> None:
        contents = {n: picture(n).replace(b"IEND", b"IEND") + bytes([salt if n == 0 else 0]) for n in numbers}
        write_items(self.root / "items", [(f"i{n}", contents[n], label) for n in numbers])
        write_features(
            self.root / "view.h5",
            [f"i{n}" for n in numbers],
            [key_of_bytes(contents[n]) for n in numbers],
            self.vectors[numbers],
        )
        write_split(self.root / "split.parquet", [f"i{n}" for n in numbers], ["train"] * len(numbers))

    def index(self, kind: str, **more: object) -> stage.IndexReport:
        return stage.run(
            stage.IndexParams(kind=kind, recall=0.8),
            features=self.root / "view.h5",
            items=self.root / "items",
            out=self.root / "index",
            threads=1,
            **more,
        )


def test_equal_items_give_equal_bytes_in_every_file(world: World, tmp_path: Path) -> None:
    """Times differ between runs, so none of these may hold one."""
    for name in ("a", "b"):
        stage.run(
            stage.IndexParams(),
            features=world.features,
            items=world.items,
            out=tmp_path / name,
            metrics=tmp_path / name / "metrics.json",
            threads=1,
        )
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second and len(first) == 4


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_new_items_are_added_gone_ones_deleted_without_a_rebuild(kind: str, tmp_path: Path) -> None:
    world = Changing(tmp_path)
    world.write(list(range(300)))
    first = world.index(kind)
    assert first.n_rebuilt == 300 and first.recall_at_10 is not None and first.recall_at_10 >= 0.8
    assert [one["chosen"] for one in first.measured].count(True) == 1
    world.write(list(range(20, 330)))
    second = world.index(kind)
    assert (second.n, second.n_added, second.n_deleted, second.n_rebuilt) == (310, 30, 20, 0)
    assert second.recall_at_10 == first.recall_at_10 and 0 < second.p50_ms <= second.p99_ms
    index, view = Index.open(tmp_path / "index"), View(tmp_path / "view.h5")
    hits = index.search(world.vectors[5], 310)
    assert {hit.item_id: hit.score for hit in hits} == pytest.approx(brute(view, world.vectors[5]), abs=2e-6)
    assert len(index) == 310
    world.write(list(range(25, 330)), label="other")
    vectors_before = read_card(tmp_path / "index").vectors
    third = world.index(kind)
    assert (third.n, third.n_added, third.n_deleted) == (305, 0, 5)
    assert read_card(tmp_path / "index").vectors == vectors_before, (
        "labels and deletions leave the vectors alone"
    )
    assert {hit.metadata["label"] for hit in Index.open(tmp_path / "index").search(np.ones(8), 5)} == {
        "other"
    }
    assert stage.verify(tmp_path / "index").problems == []
    # Back again: a deleted item is added like a new one.
    world.write(list(range(330)), salt=1)
    assert (world.index(kind).n_added, world.index(kind).n_added) == (25, 0)
    assert world.index(kind, rebuild=True).n_rebuilt == 330


def test_an_index_that_has_changed_by_more_than_a_third_is_built_anew(tmp_path: Path) -> None:
    world = Changing(tmp_path)
    world.write(list(range(200)))
    world.index("ivf")
    world.write(list(range(120, 300)))
    assert world.index("ivf").n_rebuilt == 180
    world.write(list(range(120, 301)))
    assert world.index("hnsw").n_rebuilt == 181, "other parameters"


@pytest.mark.parametrize("kind", ["flat", *APPROXIMATE])
@pytest.mark.parametrize("suffix", [".faiss", ".parquet"])
def test_a_flipped_bit_anywhere_is_found_by_verify(kind: str, suffix: str, tmp_path: Path) -> None:
    world = Changing(tmp_path)
    world.write(list(range(150)))
    world.index(kind)
    assert stage.verify(tmp_path / "index").problems == []
    (path,) = (tmp_path / "index").glob(f"*{suffix}")
    sound = path.read_bytes()
    for place in (0, 40, len(sound) // 2, len(sound) - 1):
        damaged = bytearray(sound)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        (problem,) = stage.verify(tmp_path / "index").problems
        assert path.name in problem and "damaged" in problem
    path.write_bytes(sound[:-1])
    with pytest.raises(StoreError, match=r"damaged: [\d,]+ bytes instead of [\d,]+"):
        Index.open(tmp_path / "index")
    path.unlink()
    assert "cannot be read" in stage.verify(tmp_path / "index").problems[0]


def test_a_damaged_header_or_sidecar_is_refused_when_opening(world: World, tmp_path: Path) -> None:
    out = tmp_path / "index"
    make(world, out)
    (vectors,) = out.glob("*.faiss")
    content = vectors.read_bytes()
    vectors.write_bytes(content[:12] + b"\xff" + content[13:])
    with pytest.raises(StoreError, match="header is not what was written"):
        Index.open(out)
    vectors.write_bytes(content)
    card = (out / CARD).read_bytes()
    (out / CARD).write_bytes(card.replace(b'"flat"', b'"hnsw"'))
    for act in (Index.open, stage.verify):
        with pytest.raises(StoreError, match="checksum does not fit"):
            act(out)
    (out / CARD).unlink()
    with pytest.raises(StoreError, match="`deponij index` makes one"):
        Index.open(out)


def test_what_an_earlier_reader_has_open_stays_readable(tmp_path: Path) -> None:
    world = Changing(tmp_path)
    world.write(list(range(100)))
    world.index("flat")
    early = Index.open(tmp_path / "index")
    before = [hit.item_id for hit in early.search(world.vectors[5], 5)]
    world.write(list(range(50, 150)))
    world.index("flat")
    assert [hit.item_id for hit in early.search(world.vectors[5], 5)] == before
    assert "i5" not in {hit.item_id for hit in Index.open(tmp_path / "index").search(world.vectors[5], 100)}


def test_a_kill_between_files_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Changing(tmp_path)
    world.write(list(range(100)))
    world.index("flat")
    world.write(list(range(120)))
    with monkeypatch.context() as patch:
        patch.setattr(
            "deponij.store.index_folder.write_bytes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            world.index("flat")
    assert len(Index.open(tmp_path / "index")) == 100
    world.index("flat")
    assert len(Index.open(tmp_path / "index")) == 120
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_near_duplicates_are_folded_and_k_others_come_back(tmp_path: Path) -> None:
    """Ten things, each shown eight times with a little noise."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.linalg.qr(rng.normal(size=(16, 16)))[0][:10], 8, axis=0)
    vectors = (vectors + 0.001 * rng.normal(size=vectors.shape)).astype(np.float32)
    ids = [f"thing{n // 8}-{n % 8}" for n in range(80)]
    write_features(tmp_path / "view.h5", ids, [key_of_bytes(i.encode()) for i in ids], vectors)
    index = Index.of(View(tmp_path / "view.h5"))
    hits = index.search(vectors[:1].sum(axis=0) + 0.1 * vectors.sum(axis=0), 6, unique=Thresholds())
    assert len({hit.item_id.split("-")[0] for hit in hits}) == len(hits) == 6
    assert hits[0].item_id.startswith("thing0-")
    assert all(hit.item_id.split("-")[0] == one.split("-")[0] for hit in hits for one in hit.folded)
    assert len(hits[0].folded) == 7
    everything = index.search(vectors[0], 50, unique=Thresholds())
    assert len(everything) == 10 and sum(1 + len(hit.folded) for hit in everything) == 80
    # With thresholds that nothing meets, nothing is folded.
    assert len(index.search(vectors[0], 50, unique=Thresholds(max_bits=0, min_cosine=1.0))) == 50


def test_refusals(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds features of kind 'dense@1'"):
        write_features(tmp_path / "dense.h5", ["a"], ["0" * 40], np.ones((1, 4), np.float32), kind="dense@1")
        stage.run(stage.IndexParams(), features=tmp_path / "dense.h5", items=world.items, out=tmp_path / "x")
    changing = Changing(tmp_path)
    changing.write([1, 2, 3])
    with pytest.raises(StoreError, match="saw items that are not in"):
        stage.run(stage.IndexParams(), features=tmp_path / "view.h5", items=world.items, out=tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match=r"holds other files \(such as 'thesis.txt'\)"):
        make(world, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(UsageError, match="there is no item 'photo3.jpg#9'.*did you mean"):
        Index.of(View(world.features)).vectors(["photo3.jpg#9"])
    with pytest.raises(UsageError, match="recall: Input should be less than or equal to 1"):
        check(stage.IndexParams, {"recall": 2}, "the command line")


def test_a_recall_that_a_type_does_not_reach_is_an_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deponij.pipeline.retrieval.choosing.recall_of", lambda *_: 0.5)
    with pytest.raises(
        DataError, match=r"ivf reaches a recall@10 of 50.0 % at its most thorough, not 95.0 %"
    ):
        make(world, tmp_path / "index", kind="ivf")
    assert not (tmp_path / "index").exists()


def test_under_dvc_it_reads_and_writes_where_the_profile_says(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "tiny"
    for source, target in (
        (world.items, "items"),
        (world.features, "views/a.h5"),
        (world.features, "views/b.h5"),
        (world.split, "splits/g.parquet"),
    ):
        (run / target).parent.mkdir(parents=True, exist_ok=True)
        (run / target).symlink_to(source)
    (tmp_path / "params.yaml").write_text(
        "profile: tiny\nbackbones: {a: {}, b: {}}\nsplits: {g: {strategy: group}}\nlabels: [category]\n"
    )
    monkeypatch.chdir(tmp_path)
    (run / "indexes" / "gone").mkdir(parents=True)
    under_dvc(stage)
    numbers = json.loads((run / "metrics" / "index.json").read_text())
    n = len(View(world.features))
    facts = {"kind": "flat", "n": n, "recall_at_10": 1.0, "n_queries": n // 10}
    assert numbers == {"a": facts, "b": facts}
    # That of a backbone that has left the profile goes.
    assert sorted(path.name for path in (run / "indexes").iterdir()) == ["a", "b"]
    times = json.loads((run / "timings" / "searches" / "a.json").read_text())
    assert 0 < times["p50_ms"] <= times["p99_ms"]
    index = Index.open(run / "indexes" / "a")
    assert "split_g" in index.search(np.ones(16), 1)[0].metadata


def test_two_splits_of_one_name_are_refused(world: World, tmp_path: Path) -> None:
    """Each would be the column `split_NAME`; the second must not quietly take the first one's place."""
    flags = ["--features", world.features, "--items", world.items, "--out", tmp_path / "index"]
    refused = call("index", *flags, "--split", world.split, "--split", tmp_path / world.split.name)
    assert refused.status == 2
    assert "two splits have the same file name" in refused.err
