"""`deponij forget`: afterwards not a byte of the picture, its vectors or its name is in the run or the depot."""

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import cli_world
import depot_world
import fake_backbone
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_world import call, done

from deponij.pipeline.data.known_files import NAME
from deponij.pipeline.reports.samples import data_uri
from deponij.pipeline.unit_vectors import unit
from deponij.project import last_run
from deponij.project.data_sets import source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.in_force import InForce
from deponij.project.last_run import remember
from deponij.project.meant import Meant, run_meant
from deponij.project.thumbnails import images_of
from deponij.services.forget import forget as forgetting
from deponij.services.forget import targets
from deponij.services.forget.originals import Originals
from deponij.services.run import Plan, run
from deponij.stages import items as making
from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.places import catalog
from deponij.store.shard import row_checksums
from deponij.store.upkeep import forgetting as dropping
from deponij.store.view import View, write_view

GONE, TWIN = "can/03.png", "can/twin.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of class folders in which one picture stands twice."""
    root = tmp_path_factory.mktemp("forget")
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(last_run, "POINTER", Path(".deponij/last-run.json"))
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        cli_world.class_folders(root / "pictures")
        shutil.copy(root / "pictures" / GONE, root / "pictures" / TWIN)
        model = str(fake_backbone.make(root / "words"))
        plan = Plan(source=source_of(folder=Path("pictures")), backbones=(model,))
        run(plan, out=Path("runs/mine"), options=RunOptions(device="cpu", threads=1, workers=1))
        yield root


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to forget in."""
    for name in ("runs", "depot", "pictures", "words", ".deponij", "cache"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(last_run, "POINTER", Path(".deponij/last-run.json"))
    monkeypatch.delenv("DEPONIJ_DEPOT", raising=False)
    return tmp_path


def needles(folder: Path) -> dict[str, bytes]:
    """What must not be found: names, key, the file, its vector in each form that is stored, its thumbnail."""
    items, view = Items(folder / "runs/mine/items"), View(folder / "runs/mine/views/words.h5")
    vector = view.read([GONE])
    thumbnail = data_uri(images_of(items, [GONE], 112)[GONE])
    return {
        "id": GONE.encode(),
        "id of its twin": TWIN.encode(),
        "key": items.keys[items.places[GONE]].encode(),
        "file": items.content(GONE),
        "vector": vector.astype(np.float32).tobytes(),
        "unit vector": unit(vector).astype(np.float32).tobytes(),
        "thumbnail": thumbnail.encode(),
    }


def found(folder: Path, needle: bytes) -> list[str]:
    """Files below runs, depot and caches that hold these bytes; of compressed Parquet files what is in them."""
    hits = []
    for path in sorted(path for place in ("runs", "depot", "cache") for path in (folder / place).rglob("*")):
        if path.is_file():
            content = path.read_bytes() + path.name.encode()
            if path.suffix == ".parquet":
                whole = io.BytesIO()
                pq.write_table(pq.read_table(path), whole, compression="none", use_dictionary=False)
                content += whole.getvalue()
            if needle in content:
                hits.append(str(path.relative_to(folder)))
    return hits


def test_not_a_byte_is_left_and_what_was_computed_is_made_again(folder: Path) -> None:
    wanted = needles(folder)
    before = {name: found(folder, needle) for name, needle in wanted.items()}
    assert all(before.values()), before
    n_rows = sum(len(sidecar.keys) for sidecar in FeatureStore(folder / "depot").sidecars)

    dry = done("forget", f"pictures/{GONE}", "--dry-run", "--json").json
    assert {name: found(folder, needle) for name, needle in wanted.items()} == before
    assert sorted(dry["items"]) == [GONE, TWIN]

    answer = done("forget", f"pictures/{GONE}", "--json").json
    assert (answer["removed"], answer["items"]) == (dry["removed"], dry["items"])
    assert {name: found(folder, needle) for name, needle in wanted.items()} == {name: [] for name in wanted}

    assert sum(len(sidecar.keys) for sidecar in FeatureStore(folder / "depot").sidecars) == n_rows - 1
    assert answer["is_remade"] and (folder / "runs/mine/report/page.html").is_file()
    record = done("results", "--json").json
    assert record["n_items"] == len(Items(folder / "runs/mine/items")) == 3 * cli_world.N_PER_CLASS + 2 - 2
    assert done("query", "item", "can/01.png", "-k", 40, "--json").json
    # The originals were not to be deleted, and that is told.
    left = " ".join(answer["left"])
    assert (folder / "pictures" / GONE).is_file() and f"pictures/{GONE}, the original, stays" in left

    again = done("forget", f"pictures/{GONE}").out
    assert "nothing of it was left" in again
    unknown = call("forget", GONE)
    assert unknown.status == 2 and "forgotten already?" in unknown.err


@pytest.mark.parametrize("stop", ["drop_from_depot", "drop_from_view", "drop_from_table", "drop_items"])
def test_an_interrupted_one_goes_on(folder: Path, stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before each step, as by a kill; the same command, or one without names, ends it."""
    wanted, meant = needles(folder), run_meant()
    chosen = targets.find(meant, [GONE])
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(dropping, stop, killed)
        with pytest.raises(KeyboardInterrupt):
            forgetting.run(meant, chosen, None, dry_run=False, with_file=False)
    assert (meant.at.root / targets.JOURNAL).is_file()
    later = targets.find(meant, [])
    assert sorted(later.items) == [GONE, TWIN]
    report = forgetting.run(meant, later, None, dry_run=False, with_file=True)
    targets.done(meant.at)
    assert report.must_remake
    assert {name: found(folder, needle) for name, needle in wanted.items()} == {name: [] for name in wanted}
    assert not (folder / "pictures" / GONE).exists() and not (folder / "pictures" / TWIN).exists()


def test_a_cache_that_cannot_be_written_is_told(folder: Path) -> None:
    cache = folder / "cache" / NAME
    with sqlite3.connect(cache) as database:
        database.execute("create trigger no before delete on files begin select raise(abort, 'not now'); end")
    answer = done("forget", f"pictures/{GONE}", "--json").json
    (told,) = (one for one in answer["left"] if NAME in one)
    assert "not now: it may still know the picture; delete it" in told


def test_a_picture_that_is_not_there_and_what_else_holds_it(folder: Path) -> None:
    shutil.copytree(folder / "runs/mine", folder / "runs/other")
    (folder / ".dvc").mkdir()
    wrong = call("forget", "can/3.png")
    assert wrong.status == 2 and "did you mean 'can/03.png'?" in wrong.err
    assert call("forget").status == 2
    left = " ".join(done("forget", GONE, "--dry-run", "--json").json["left"])
    key = Items(folder / "runs/mine/items").keys[0]
    assert "runs/other holds the picture too; `deponij forget " in left and key is not None
    assert "dvc gc --workspace" in left
    text = done("forget", GONE, "--dry-run").out
    assert "nothing was changed" in text and "would go" in text


def test_one_instance_of_a_photograph_and_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a COCO file with two photographs of two instances each."""
    monkeypatch.chdir(tmp_path)
    annotations = cli_world.coco(tmp_path / "coco")
    options = {"annotations": annotations, "images": tmp_path / "coco/images"}
    at = Layout(tmp_path / "runs/coco")
    making.run("coco", options, out=at.items, run_options=RunOptions(workers=1))
    data = {"adapter": "coco", "root": ".", "options": options, "corrections": ["decided.csv"]}
    given = {"mine": {"given": "mine.npy", "ids": "a column"}}
    facts = InForce(profile="coco", data=data, backbones=given, labels=("category",))
    remember(at, facts, by="deponij run", depot=str(tmp_path / "depot"))
    meant = run_meant(at.root)
    one = targets.find(meant, ["a.png#0"])
    assert list(one.items) == ["a.png#0"]
    report = forgetting.run(meant, one, None, dry_run=True, with_file=True)
    told = " ".join(report.left)
    assert "shows 1 other item too" in told and "annotations.json may still name it" in told
    assert "decided.csv may still name it" in told and "mine.npy may still name it, or hold it" in told
    assert "a column" not in told and "there is no depot at" in told
    both = targets.find(meant, [str(tmp_path / "coco/images/a.png")])
    assert sorted(both.items) == ["a.png#0", "a.png#1"]
    forgetting.run(meant, both, None, dry_run=False, with_file=True)
    assert not (tmp_path / "coco/images/a.png").exists()
    assert Items(at.items).ids == ["b.png#0", "b.png#1"]
    json.loads((at.root / targets.JOURNAL).read_text())


def test_what_another_item_says_or_shows_too_is_not_forgotten(tmp_path: Path) -> None:
    """A caption of two items stays where one of them does; a file that holds another picture now is not theirs."""
    at = Layout(tmp_path / "run")
    with ItemWriter(at.items, pa.schema([("caption", pa.string())])) as writer:
        for name, caption in (("a.png", "mine"), ("a2.png", "ours"), ("b.png", "ours"), ("c.png", None)):
            core = {"item_id": name, "key": key_of_bytes(name[:1].encode()), "image_id": name}
            writer.add(content=name[:1].encode(), metadata={"caption": caption}, **core)
    texts = ["mine", "ours"]
    arrays = {"embedding": np.eye(2, 4, dtype=np.float32)}
    write_view(
        at.texts("words"),
        identity=Identity("made:words", "w" * 64, "text", "", "", "fp32", "float32"),
        backbone="words",
        ids=[f"caption={key_of_text(one)}" for one in texts],
        keys=[key_of_text(one) for one in texts],
        checksums=row_checksums(arrays, 2),
        arrays=arrays,
        columns={"text": texts, "caption_column": ["caption", "caption"]},
    )
    meant = Meant(at, None, None, False)
    found = targets.find(meant, ["a.png"])
    # What shows the same goes with it; `ours` is also said of b.png.
    assert sorted(found.items) == ["a.png", "a2.png"]
    assert found.captions == {f"caption={key_of_text('mine')}"}
    assert found.keys == {key_of_bytes(b"a"), key_of_text("mine")}
    with_b = targets.find(meant, ["a.png", "b.png"])
    assert with_b.captions == {f"caption={key_of_text(one)}" for one in texts}
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"another picture")
    originals = Originals((folder,), ())
    assert originals.file("a.png", key_of_bytes(b"a"), is_whole=True) is None
    # Of a photograph from which crops are cut the key is another one than the crop's.
    assert originals.file("a.png", key_of_bytes(b"a"), is_whole=False) == folder / "a.png"
    (folder / "a.png").write_bytes(b"a")
    assert originals.file("a.png", key_of_bytes(b"a"), is_whole=True) == folder / "a.png"
    assert originals.file("gone.png", None, is_whole=True) is None


def test_nothing_that_was_computed_of_it_stays_until_it_is_made_again(folder: Path) -> None:
    """All that stages bring out goes but what single items can be taken out of, and facts about the machine."""
    forgetting.run(run_meant(), targets.find(run_meant(), [GONE]), None, dry_run=False, with_file=False)
    left = {path.name for path in (folder / "runs/mine").iterdir()}
    assert left == {"items", "splits", "views", "weights", "metrics", "timings", "run.json", targets.JOURNAL}
    assert {path.name for path in (folder / "runs/mine/metrics").iterdir()} == {"split.json"}


def test_keys_that_the_cache_of_places_keeps_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in the place of a run stands for a file that cannot be deleted, which root can always do."""
    monkeypatch.setattr(catalog, "CACHED_FROM", 1)
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    path, keys = tmp_path / "depot", depot_world.keys_of(range(8))
    depot_world.fill(FeatureStore(path, create=True), range(8))
    FeatureStore(path)
    (kept,) = (tmp_path / "cache/depots").iterdir()

    def left(key: str) -> str:
        return " ".join(forgetting._from_depot(str(path), targets.Targets({}, frozenset({key})), False)[1])

    assert left(keys[0]) == ""
    (kept / "0123456789abcdef.run").mkdir()
    assert f"{kept} cannot be cleared" in left(keys[1])
