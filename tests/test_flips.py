"""Whatever bit is flipped in whatever file that a later step reads: an error, or the same figures; never others.

Flips are drawn with a seed; all of them run with `pytest -m slow -s tests/test_flips.py`, which prints the table.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import depot_world
import maps_world
import numpy as np
import pyarrow as pa
import pytest
import scenes_made
import tiny_models
import torch
import training_toy
import tuning_world
from learning_world import DIM, World, learned, write_features
from ledger import Ledger, Row, seed
from pydantic import BaseModel
from report_world import make_report_world
from segmentation_world import make_results as make_segmentations
from segmentation_world import make_scenes

from deponij.pipeline.advice.records import ADVICE
from deponij.pipeline.backbones import remember
from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.decoders.bilinear import Bilinear
from deponij.pipeline.decoders.decoder import Level
from deponij.pipeline.decoders.lseg import LSeg
from deponij.pipeline.decoders.saved import DECODERS, Applied, decoder_files, load_decoder
from deponij.pipeline.ensembles.registry import load_ensemble
from deponij.pipeline.heads.examples import join_examples
from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.likeness.records import LIKENESS
from deponij.pipeline.metrics.curves import CURVES
from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.pipeline.mistakes.records import MISTAKES
from deponij.pipeline.multilabel.registry import kinds as multilabel_kinds
from deponij.pipeline.multilabel.registry import load_multilabel
from deponij.pipeline.reports.cells import CELLS
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.pipeline.training.checkpoint import read_checkpoint
from deponij.pipeline.training.loop import train
from deponij.pipeline.tuning.saved import read_tuned, save_tuned
from deponij.project import last_run
from deponij.project.frame.harness import read_times, timed
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import InForce, weights_record
from deponij.project.indexes import Index, rows_table
from deponij.project.learning.item_columns import read_parts
from deponij.project.learning.multilabel import SetExamples, learn_sets, make_multilabel_head
from deponij.project.learning.multilabel_files import read_multilabel_answers
from deponij.project.learning.result_files import CONFUSION_NAME, read_file, read_judged, read_result
from deponij.project.learning.zero_shot_answers import read_answers
from deponij.project.report.inputs import read_embedding, read_records, split_facts
from deponij.project.segmentation.result_files import read_counts, read_label_maps
from deponij.stages import ensembles
from deponij.stages import scenes as scenes_stage
from deponij.store import index_folder
from deponij.store.depot import FeatureStore
from deponij.store.errors import DeponijError, StoreError
from deponij.store.index_folder import write_index
from deponij.store.items import Items
from deponij.store.keys import key_of_text
from deponij.store.reading import MapReader, Window
from deponij.store.scenes import Scenes
from deponij.store.sealed import sealed
from deponij.store.view import View

RECORDS: dict[str, Any] = {
    "retrieval": RETRIEVAL,
    "curves": CURVES,
    "mistakes": MISTAKES,
    "likeness": LIKENESS,
    "advice": ADVICE,
}
FEW, MANY = 6, 150
# Of each file, by `make torture`.
FLIPS = 200
# Nobody reads these but people and `dvc`.
FOR_PEOPLE = {"metrics.json", "per_class.csv", "tables.md"}


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what a later step takes from them."""

    name: str
    files: list[Path]
    read: Callable[[], Any]


def plain(value: Any) -> Any:
    """What can be compared with `==`."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, pa.Table):
        value = value.to_pydict()
    elif isinstance(value, BaseModel):
        value = value.model_dump()
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, one.name) for one in fields(value)]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def of_results(world: World, at: Layout) -> Iterator[Kind]:
    """Results folders of heads and ensembles, with what was learned."""
    folders = {}
    for kind in ("logistic", "knn", "zero-shot", "mlp"):
        folders[kind] = at.result(kind, "tiny") / "split-label"
        learned(world, kind, folders[kind], **({"texts": world.texts} if kind == "zero-shot" else {}))
    for how in ("mean-probs", "stacking"):
        folders[how] = at.result(how, "tiny", "ensembles") / "split-label"
        ensembles.run(how, [folders["logistic"], folders["knn"]], out=folders[how])
    rows = np.random.default_rng(1).normal(size=(9, DIM))
    logits = np.random.default_rng(2).normal(size=(2, 9, 4))

    def results(folder: Path) -> Any:
        return read_judged(folder), read_result(folder), read_file(folder, CONFUSION_NAME)

    for name, folder in folders.items():
        is_head = (folder / "head.json").is_file()
        answer: Callable[[Path], Any] = (
            (lambda at: load_head(at).decision_function(rows))
            if is_head
            else (lambda at: load_ensemble(at)[0].combine(logits))
        )
        files = [path for path in sorted(folder.iterdir()) if path.name not in FOR_PEOPLE]
        yield Kind(f"results of {name}", files, lambda at=folder, answer=answer: (results(at), answer(at)))


def of_decoders(root: Path) -> Iterator[Kind]:
    """A decoder that has learned class vectors, and one that learned nothing and has words."""
    levels = [Level("stride4", 3, 4), Level("stride8", 5, 8)]
    words = torch.eye(2, 5)
    maps = [
        torch.linspace(-1, 1, 3 * 20).reshape(1, 3, 4, 5),
        torch.linspace(1, -2, 5 * 6).reshape(1, 5, 2, 3),
    ]
    for decoder, vectors in ((LSeg(width=4), None), (Bilinear(), words)):
        folder = root / decoder.kind
        torch.manual_seed(0)
        applied = Applied(
            levels=levels,
            classes=["road", "sky"],
            colours=[(128, 64, 128), (0, 0, 255)],
            source=FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="scenes"),
            input_px=(16, 20),
            protocol="none",
        )
        DECODERS.write(folder, decoder_files(decoder, decoder.build(levels, 2, vectors), vectors, applied))

        def read(folder: Path = folder) -> Any:
            card, module = load_decoder(folder)
            with torch.inference_mode():
                return card, module(maps, (16, 20)).numpy()

        yield Kind(f"decoder {decoder.kind}", sorted(folder.iterdir()), read)


def of_multilabel(root: Path) -> Iterator[Kind]:
    """Results folders of heads with several labels an item."""
    rng, rows = np.random.default_rng(3), np.random.default_rng(1).normal(size=(9, DIM))
    ids, parts = np.array([f"i{k:02}" for k in range(60)]), np.repeat(["train", "val", "test"], 20)
    features = rng.normal(size=(60, DIM)).astype(np.float32)
    truth = features[:, :3] + 0.3 * rng.normal(size=(60, 3)) > 0
    source = FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="label")
    examples = join_examples(
        dict.fromkeys(ids.tolist(), "[]"),
        dict(zip(ids.tolist(), parts.tolist(), strict=True)),
        dict(zip(ids.tolist(), ids.tolist(), strict=True)),
        ids.tolist(),
    )
    found = SetExamples(examples, np.array(["a", "b", "c"]))
    for kind in multilabel_kinds():
        folder = root / "results" / "multilabel" / kind / "tiny" / "split-label"
        learn_sets(
            make_multilabel_head(kind, {}), found, truth, features, [source], split="split", out=folder
        )
        files = [path for path in sorted(folder.iterdir()) if path.name not in FOR_PEOPLE]

        def read(folder: Path = folder) -> Any:
            return read_multilabel_answers(folder), load_multilabel(folder).predict_proba(rows)

        yield Kind(f"multi-label results of {kind}", files, read)


def of_segmentation(root: Path) -> Iterator[Kind]:
    """Results folders of segmentation."""
    scenes = make_scenes(root / "scenes", {"val": 2, "test": 3})
    for folder in make_segmentations(scenes, Layout(root)):
        files = [path for path in sorted(folder.iterdir()) if path.name not in FOR_PEOPLE]

        def read(folder: Path = folder) -> Any:
            answers = read_label_maps(folder)
            maps = [answers.label_map(one) for one in answers.ids]
            return read_counts(folder), answers.ids, maps

        yield Kind(f"segmentation by {folder.parents[1].name}", files, read)


def spec_of(at: Layout) -> Any:
    record = weights_record(at, "tiny")
    return record and record["spec"]


def told_of(at: Layout) -> Any:
    """What is typed of a run's record; a profile's sections may hold anything."""
    record = last_run.record_of(at)
    made_by = record and record.made_by
    return record and (
        *(record.finished, record.by, record.depot, str(record.run), str(record.folder)),
        *(made_by.profile, made_by.labels, made_by.text_backbones),
    )


def of_machine(root: Path) -> Iterator[Kind]:
    """What is no outcome of learning: weights' records, times, what is remembered, the depot."""
    at = Layout(root / "run")
    at.weights.mkdir(parents=True)
    record = at.weights / "tiny.json"
    record.write_bytes(sealed({"spec": "tiny", "toy": False, "dim": DIM}))
    yield Kind("weights' record", [record], lambda: (spec_of(at), toys_of(at.weights)))
    facts = {"data": {"adapter": "folder"}, "splits": {"random": {}}, "text_backbones": ("tiny",)}
    made_by = InForce(profile="run", labels=("label",), backbones={"tiny": {}}, **facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last_run, "POINTER", root / "last-run.json")
        last_run.remember(at, made_by, by="deponij run", depot="depot")
    yield Kind("run's record", [at.record], lambda: told_of(at))
    with timed(at, "heads"):
        pass
    yield Kind("times", sorted(at.timings.iterdir()), lambda: read_times(at.timings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        remember.remember("sha256", ["weights", 3], "a" * 64)

    def recalled() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
            found = remember.recall("sha256", ["weights", 3])
        if found is None:
            raise StoreError("not known, so that it is worked out again")
        return str(found)

    yield Kind("remembered hash", sorted((root / "cache" / "memory").rglob("*.json")), recalled)
    depot = root / "depot"
    depot_world.fill(FeatureStore(depot, create=True), range(8))
    keys = depot_world.keys_of(range(8))

    def rows() -> Any:
        return FeatureStore(depot).read(keys, depot_world.CLIP, ["embedding"])["embedding"]

    yield Kind("shard and sidecar", sorted(depot.glob("*/*.*")), rows)
    maps_world.write_maps(root / "maps", range(2))
    view = root / "maps" / "maps.h5"

    def maps() -> Any:
        reader = MapReader(View(view, depot=FeatureStore(root / "maps" / "depot")))
        ids = maps_world.ids_of(range(2))
        return reader.levels, reader.read(ids), reader.read(ids, [Window(1, 2, 3, 4), Window(8, 11, 3, 4)])

    yield Kind("maps", [view, *sorted((root / "maps" / "depot").glob("*/*.*"))], maps)


def of_training(root: Path) -> Iterator[Kind]:
    """A checkpoint to go on from."""
    folder = root / "training"
    train(training_toy.Toy(), training_toy.PARAMS, checkpoint=folder)

    def read() -> Any:
        state, tensors = read_checkpoint(folder)
        return state, {name: one.numpy() for name, one in tensors.items()}

    yield Kind("checkpoint of a training", sorted(folder.iterdir()), read)


def of_tuning(root: Path) -> Iterator[Kind]:
    """A tuned backbone, whose weights, records and adapter its `tuned.json` guards."""
    shelf, folder = tiny_models.Shelf(root / "shelf"), root / "tuned"
    tower = tuning_world.learned(tuning_world.tower_of(shelf, "dinov2", tuning_world.by_lora()))
    save_tuned(folder, tower, str(shelf["dinov2"]), {"epochs": 1})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    yield Kind("tuned backbone", files, lambda: read_tuned(folder))


def of_scenes(root: Path) -> Iterator[Kind]:
    """Pictures with label maps."""
    folder, made = root / "scenes", root / "street"
    scenes_stage.run("label-maps", scenes_made.segnet(made), out=folder, run_options=RunOptions())

    def read() -> Any:
        scenes = Scenes(folder)
        ids = [item_id for item_id, key in zip(scenes.items.ids, scenes.items.keys, strict=True) if key]
        found = [(scenes.label_map(one), scenes.items.content(one), scenes.group_of(one)) for one in ids]
        return ids, scenes.parts, list(scenes.classes), found

    yield Kind("scenes", sorted(path for path in folder.iterdir() if path.is_file()), read)
    yield Kind("pictures of scenes", sorted((folder / "items").iterdir()), read)


def of_indexes(root: Path) -> Iterator[Kind]:
    """Indexes of so many vectors that most lie behind the first bytes, which are looked at by themselves."""
    n = 2500
    embedding = np.random.default_rng(7).normal(size=(n, DIM)).astype(np.float32)
    ids = [f"i{number}" for number in range(n)]
    write_features(root / "many.h5", ids, [key_of_text(one) for one in ids], embedding)
    view, query = View(root / "many.h5"), np.random.default_rng(5).normal(size=DIM)
    for kind in ("flat", "hnsw", "ivf"):
        index = VectorIndex.build(view.embedding, kind)
        table = rows_table(view, np.arange(n), None, {})
        write_index(
            root / kind,
            index.save,
            table,
            identity=view.identity,
            backbone="tiny",
            kind=kind,
            settings=index.settings,
            effort=dict(index.effort),
            n_rows=n,
            n_items=n,
            dim=DIM,
            params={},
            report={},
        )

        def found(at: Path = root / kind) -> Any:
            index = Index.open(at)
            hits = index.search(query, 20)
            return hits, index.vectors([hits[0].item_id]), index.backbone, index.identity

        yield Kind(f"{kind} index", sorted((root / kind).iterdir()), found)


def make_kinds(root: Path) -> list[Kind]:
    made = make_report_world(root)
    world, parts = made.world, made.parts
    (split,), (places,) = parts["split_reports"], parts["maps"]
    items, view, texts = world.items, world.features, world.texts

    def of_items() -> Any:
        table = Items(items)
        return table.table(), list(table.contents([row for row, key in enumerate(table.keys) if key]))

    def of_view(path: Path) -> Any:
        found = View(path)
        return found.embedding, found.ids, found.keys, found.columns, found.failures, found.identity

    found = [
        Kind("items", sorted(items.iterdir()), of_items),
        Kind("view", [view], lambda: of_view(view)),
        Kind("view of texts", [texts], lambda: of_view(texts)),
        Kind("split", [world.split], lambda: read_parts(world.split)),
        Kind("split's report", [split], lambda: split_facts(split)),
        Kind("map", [places], lambda: read_embedding(places)),
        Kind("cells", [parts["cells"]], lambda: read_records([parts["cells"]], CELLS, "")),
        Kind("answers", parts["answers"], lambda: read_answers(parts["answers"][0])),
    ]
    for name, records in RECORDS.items():
        path = parts[name] if isinstance(parts[name], Path) else parts[name][0]
        read = lambda path=path, records=records: read_records([path], records, "")  # noqa: E731
        found.append(Kind(name, [path], read))
    return [
        *found,
        *of_results(world, Layout(root)),
        *of_multilabel(root),
        *of_decoders(root / "decoders"),
        *of_segmentation(root),
        *of_machine(root),
        *of_scenes(root),
        *of_training(root),
        *of_tuning(root),
        *of_indexes(root),
    ]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Kind]:
    return make_kinds(tmp_path_factory.mktemp("flips"))


def outcome(kind: Kind, path: Path, raw: bytes, bit: int, right: Any) -> str:
    bad = bytearray(raw)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bad)
    try:
        return "harmless" if plain(kind.read()) == right else f"silent: {path.name}, bit {bit}"
    except DeponijError:
        return "detected"
    finally:
        path.write_bytes(raw)


def flipped(kinds: Sequence[Kind], n: int, rows: Callable[[str], Row] | None = None) -> None:
    """Flip n bits of every file, print what came of it, and allow nothing but errors and the same figures.

    Args:
        rows: of a ledger, by kind.
    """
    rng, silent = np.random.default_rng(seed()), []
    print(f"\n{'kind':24} {'files':>5} {'flips':>6} {'detected':>9} {'harmless':>9} {'silent':>7}")
    for kind in kinds:
        right, outcomes = plain(kind.read()), []
        for path in kind.files:
            raw = path.read_bytes()
            outcomes += [
                outcome(kind, path, raw, int(bit), right) for bit in rng.integers(0, 8 * len(raw), n)
            ]
        counts = Counter(one.partition(":")[0] for one in outcomes)
        silent += [f"{kind.name}: {one}" for one in outcomes if one.startswith("silent")]
        print(
            f"{kind.name:24} {len(kind.files):5} {len(outcomes):6} {counts['detected']:9} {counts['harmless']:9} "
            f"{counts['silent']:7}"
        )
        if rows is not None:
            row = rows(f"{kind.name} ({len(kind.files)} files)")
            for one in ("detected", "harmless"):
                row.add(one, counts[one])
            row.add("wrong", counts["silent"])
        assert counts["detected"] > 0
        assert plain(kind.read()) == right
    assert silent == []


def test_no_flip_is_silent(kinds: list[Kind]) -> None:
    flipped(kinds, FEW)


def test_vectors_that_are_checked_when_they_are_searched(
    kinds: list[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_folder, "EAGER_BYTES", 0)
    flipped([kind for kind in kinds if kind.name.endswith("index")], 3 * FEW)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hundreds_of_flips_in_every_kind_of_file(kinds: list[Kind], monkeypatch: pytest.MonkeyPatch) -> None:
    flipped(kinds, MANY)
    monkeypatch.setattr(index_folder, "EAGER_BYTES", 0)
    flipped([kind for kind in kinds if kind.name.endswith("index")], MANY)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_great_many_flips(kinds: list[Kind], monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    section = "One flipped bit in every kind of file that is read"
    flipped(kinds, FLIPS, lambda kind: ledger.row(section, kind))
    monkeypatch.setattr(index_folder, "EAGER_BYTES", 0)
    indexes = [kind for kind in kinds if kind.name.endswith("index")]
    flipped(indexes, FLIPS, lambda kind: ledger.row(section, f"{kind}, checked when it is searched"))
