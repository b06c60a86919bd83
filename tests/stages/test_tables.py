"""The tables of results on Gaussian clusters: cells, their figures by hand, files, refusals."""

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

import numpy as np
import pyarrow as pa
import pytest
from learning_world import write_split
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.clusters import Clusters
from deponij.cli import app
from deponij.commands.show.cells import print_cells
from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.metrics.classification import rank
from deponij.pipeline.metrics.clustered import clustered_means
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.reports.cells import Cell
from deponij.project.learning.result_files import read_logits, read_result
from deponij.project.tables.plan import Inputs, TablesParams
from deponij.stages import tables
from deponij.store.atomic import write_table
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.identity import Identity
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_view

CLASSES = ("Bottle", "Can", "Cup", "Lid")
KIND_OF = {"Bottle": "drink", "Can": "drink", "Cup": "drink", "Lid": "rest"}
N = 480
# Enough for clusters of this width; the usual recipe is for thousands of items.
QUICK = TablesParams(seeds=2, candidates=(1e-3, 1e-2), epochs=12)
PRIORS = np.array([4.0, 3.0, 2.0, 1.0])


def codes_of(n: int) -> np.ndarray:
    return np.random.default_rng(5).choice(len(CLASSES), size=n, p=PRIORS / PRIORS.sum())


def clusters(name: str, dim: int = 8, distance: float = 3.0) -> Clusters:
    return Clusters.made(PRIORS, dim, distance, seed=len(name))


def content(row: int) -> bytes:
    return f"picture {row}".encode()


def write_items(path: Path, codes: np.ndarray, prefix: str = "item") -> None:
    columns = pa.schema([("label", pa.string()), ("kind", pa.string()), ("half", pa.string())])
    with ItemWriter(path, columns) as writer:
        for row, code in enumerate(codes):
            label = CLASSES[code]
            half = label if row % 2 else None
            writer.add(
                item_id=f"{prefix}{row}",
                key=key_of_bytes(content(row)),
                image_id=f"{row}",
                content=content(row),
                metadata={"label": label, "kind": KIND_OF[label], "half": half},
            )


def write_features(
    path: Path,
    backbone: str,
    embedding: np.ndarray,
    ids: Sequence[str],
    keys: Sequence[str],
    *,
    kind: str = "embedding",
    columns: dict[str, list[str]] | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> Path:
    arrays = {"embedding": embedding.astype(np.float32)}
    write_view(
        path,
        identity=Identity(f"made:{backbone}", backbone.ljust(64, "w"), kind, "none", "", "fp32", "float32"),
        backbone=backbone,
        ids=ids,
        keys=keys,
        checksums=row_checksums(arrays, len(ids)),
        arrays=arrays,
        columns=columns or {},
        failures=failures,
    )
    return path


def write_texts(path: Path, backbone: str, names: Sequence[str], templates: Sequence[str]) -> Path:
    """Text vectors at the classes' centres, a little off with each template."""
    centres = dict(zip(CLASSES, clusters(backbone).centres, strict=True))
    centres |= {"drink": centres["Bottle"], "rest": centres["Lid"]}
    rows = [(name, template) for name in names for template in templates]
    offsets = np.random.default_rng(1).normal(size=(len(rows), 8)) * 0.3
    texts = [template.replace("{}", name) for name, template in rows]
    return write_features(
        path,
        backbone,
        np.array([centres[name] for name, _ in rows]) + offsets,
        [f"{i}" for i in range(len(rows))],
        [key_of_text(text) for text in texts],
        kind="text",
        columns={"text": texts, "group": [n for n, _ in rows], "template": [t for _, t in rows]},
    )


@dataclass(frozen=True)
class World:
    """Items, two splits, views of three backbones of which the first one has texts."""

    inputs: Inputs
    codes: np.ndarray
    parts: tuple[str, ...]

    def ids(self, part: str) -> list[str]:
        return [f"item{row}" for row, its in enumerate(self.parts) if its == part]


def make_world(root: Path) -> World:
    codes = codes_of(N)
    ids, keys = [f"item{row}" for row in range(N)], [key_of_bytes(content(row)) for row in range(N)]
    write_items(root / "items", codes)
    parts = tuple(("train", "train", "train", "val", "test")[row % 5] for row in range(N))
    write_split(root / "fifths.parquet", ids, parts)
    write_split(root / "turned.parquet", ids, parts[2:] + parts[:2])
    features = [
        write_features(root / f"{name}.h5", name, clusters(name).features(codes, seed), ids, keys)
        for seed, name in enumerate(("words", "mute", "silent"))
    ]
    texts = write_texts(root / "texts.h5", "words", [*CLASSES, "drink", "rest"], ("{}", "a photo of a {}"))
    inputs = Inputs(
        features=tuple(features),
        texts=(texts,),
        items=root / "items",
        splits=(root / "fifths.parquet", root / "turned.parquet"),
        labels=("label", "kind"),
    )
    return World(inputs, codes, parts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def out(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the whole world, with everything that is written."""
    folder = tmp_path_factory.mktemp("out")
    tables.run(QUICK, world.inputs, threads=1, out=folder, results=folder / "results")
    return folder


@pytest.fixture(scope="module")
def cells(out: Path) -> list[Cell]:
    return tables.read(out)


def one(inputs: Inputs, **changes: object) -> Inputs:
    """A small part of the world: the first backbone, split and label set."""
    small = {"features": inputs.features[:1], "texts": (), "splits": inputs.splits[:1], "labels": ("label",)}
    return replace(inputs, **{**small, **changes})


def pick(cells: Sequence[Cell], model: str, head: str, split: str = "fifths", labels: str = "label") -> Cell:
    (found,) = [
        cell
        for cell in cells
        if (cell.model, cell.head, cell.split, cell.labels) == (model, head, split, labels)
    ]
    return found


def test_every_cell_is_there_once(cells: Sequence[Cell]) -> None:
    baselines = [("chance", "baseline"), ("majority", "baseline")]
    zero_shot = [("words", f"zero-shot{prompt}") for prompt in ("", " (name)", " (photo)")]
    # The one with texts beside each one without, and all together.
    joined = ["words + mute", "words + silent", "words + mute + silent"]
    models = [
        "words",
        "mute",
        "silent",
        *(f"{how}: {names}" for how in ("concat", "logits") for names in joined),
    ]
    learned = [(model, head) for model in models for head in ("linear", "mlp")]
    for split in ("fifths", "turned"):
        for labels in ("label", "kind"):
            found = [(c.model, c.head) for c in cells if (c.split, c.labels) == (split, labels)]
            assert sorted(found) == sorted([*baselines, *zero_shot, *learned])
    assert len(cells) == 4 * (len(baselines) + len(zero_shot) + len(learned))
    assert all(cell.reference is None for cell in cells)


def test_counts_seeds_and_intervals(world: World, cells: Sequence[Cell]) -> None:
    for cell in cells:
        assert cell.n == len(world.ids("test"))
        assert cell.n_classes == (4 if cell.labels == "label" else 2)
        assert cell.top1_interval[0] <= cell.top1 <= cell.top1_interval[1]
        assert cell.top1 <= cell.top2 <= cell.top3
        if cell.head in ("linear", "mlp"):
            assert (cell.seeds, cell.seed_values) == (2, (0, 1))
            assert cell.interval_kind == "clustered"
            assert cell.top1_std is not None
        else:
            assert (cell.seeds, cell.seed_values, cell.top1_std) == (1, (), None)
            assert cell.interval_kind == ("exact" if cell.model == "chance" else "clustered")


def test_a_linear_head_reaches_the_optimum(world: World, cells: Sequence[Cell]) -> None:
    """By Bayes' rule with the centres that the features were made with; it is linear in the features."""
    test = world.ids("test")
    truth = world.codes[[int(item_id[4:]) for item_id in test]]
    for name, path in zip(("words", "mute", "silent"), world.inputs.features, strict=True):
        made = clusters(name)
        best = (made.log_posteriors(View(path).read(test)).argmax(axis=1) == truth).mean()
        cell = pick(cells, name, "linear")
        assert cell.top1_interval[0] <= best <= cell.top1_interval[1]
        optimum = made.bayes_accuracy()
        assert abs(cell.top1 - optimum) < 3 * (optimum * (1 - optimum) / cell.n) ** 0.5


def test_features_together_reach_their_joint_optimum(world: World, cells: Sequence[Cell]) -> None:
    names = ("words", "mute", "silent")
    # Independent noise: the joint centres are the members' side by side.
    centres = np.concatenate([clusters(name).centres for name in names], axis=1)
    optimum = Clusters(centres, PRIORS / PRIORS.sum()).bayes_accuracy()
    for how in ("concat", "logits"):
        cell = pick(cells, f"{how}: words + mute + silent", "linear")
        assert cell.top1_interval[0] <= optimum <= cell.top1_interval[1]
        assert cell.top1 >= max(pick(cells, name, "linear").top1 for name in names)
        assert cell.members == names


def test_zero_shot_equals_cosines_by_hand(world: World, cells: Sequence[Cell]) -> None:
    view, texts = View(world.inputs.features[0]), View(world.inputs.texts[0])
    test = world.ids("test")
    truth = np.array([CLASSES[world.codes[int(item_id[4:])]] for item_id in test])
    for head, templates in {
        "zero-shot": ("{}", "a photo of a {}"),
        "zero-shot (name)": ("{}",),
        "zero-shot (photo)": ("a photo of a {}",),
    }.items():
        units = texts.embedding / np.linalg.norm(texts.embedding, axis=1, keepdims=True)
        chosen = np.isin(texts.columns["template"], templates)
        groups = texts.columns["group"]
        means = np.array([units[chosen & (groups == name)].mean(axis=0) for name in CLASSES])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        answers = np.array(CLASSES)[(view.read(test) @ means.T).argmax(axis=1)]
        cell = pick(cells, "words", head)
        assert cell.top1 == pytest.approx((answers == truth).mean())
        assert all(repr(template) in cell.protocol for template in templates)


def test_the_first_seeds_results_lie_in_their_folders(world: World, out: Path, cells: Sequence[Cell]) -> None:
    folders = sorted(path.parent.relative_to(out / "results") for path in out.glob("results/*/*/*/head.json"))
    sets = ["words", "mute", "silent", "words+mute", "words+silent", "words+mute+silent"]
    assert folders == sorted(
        Path(kind, name, f"{split}-{labels}")
        for kind in ("linear", "mlp")
        for name in sets
        for split in ("fifths", "turned")
        for labels in ("label", "kind")
    )
    folder = out / "results" / "mlp" / "words+mute" / "fifths-label"
    result, found = read_result(folder)
    assert (result.method, result.backbone, result.split, result.labels) == (
        "mlp",
        "words+mute",
        "fifths",
        "label",
    )
    head = load_head(folder)
    assert [source.backbone for source in head.sources_] == ["words", "mute"]
    features = np.concatenate(
        [View(path).read(found.ids.tolist()) for path in world.inputs.features[:2]], axis=1
    )
    np.testing.assert_allclose(head.decision_function(features), read_logits(folder), atol=1e-4)


def test_a_cell_equals_the_mean_over_runs_of_one_seed(world: World, cells: Sequence[Cell], out: Path) -> None:
    # The first run's share from its stored predictions; the second one is what is missing to the mean.
    single = tables.run(replace_params(QUICK, seeds=1), world.inputs, threads=1)
    for model, head in (("words", "linear"), ("concat: words + mute", "mlp")):
        folder = out / "results" / head / model.removeprefix("concat: ").replace(" + ", "+") / "fifths-label"
        result, answers = read_result(folder)
        found = answers.of("test")
        first = (found.truth == found.top_labels[:, 0]).mean()
        assert pick(single, model, head).top1 == pytest.approx(first)
        alone = clustered_means((found.truth == found.top_labels[:, 0])[:, None], found.groups, found.truth)
        assert pick(single, model, head).top1_interval == pytest.approx(alone.micro[0].interval)
        assert pick(single, model, head).balanced_interval == pytest.approx(alone.macro[0].interval)
        val = result.parts["val"]
        assert (pick(single, model, head).val_top1, pick(single, model, head).n_val) == (val.top1, val.n)
        assert val.top1 != first, "otherwise the test shows nothing"
        both = pick(cells, model, head)
        # Two values are the same distance from their mean: std = |difference| / sqrt(2).
        assert both.top1_std is not None
        assert both.top1_std * 2**0.5 == pytest.approx(2 * abs(both.top1 - first))


def test_mean_of_logits_equals_that_of_the_stored_ones(world: World, out: Path) -> None:
    single = tables.run(replace_params(QUICK, seeds=1), one(world.inputs, features=world.inputs.features[:2]))
    folders = [out / "results" / "linear" / name / "fifths-label" for name in ("words", "mute")]
    (result, found), _ = (read_result(folder) for folder in folders)
    mean = np.mean([read_logits(folder) for folder in folders], axis=0)
    test = found.parts == "test"
    answers = np.array(result.classes)[rank(mean[test], 2)]
    cell = pick(single, "logits: words + mute", "linear")
    assert cell.top1 == pytest.approx((answers[:, 0] == found.truth[test]).mean())
    assert cell.top2 == pytest.approx((answers == found.truth[test][:, None]).any(axis=1).mean())
    assert cell.lr is None


def replace_params(params: TablesParams, **changes: object) -> TablesParams:
    return TablesParams.model_validate({**params.model_dump(), **changes})


def test_rates_are_chosen_on_validation_or_given(world: World, cells: Sequence[Cell]) -> None:
    cell = pick(cells, "words", "linear")
    assert cell.lr in QUICK.candidates
    assert cell.protocol.endswith("; learning rate of 0.001, 0.01 by the first seed's validation loss")
    given = replace_params(QUICK, lrs={"words": 0.003}, kinds=("linear",), seeds=1)
    (cell,) = [c for c in tables.run(given, one(world.inputs), threads=1) if c.head == "linear"]
    assert cell.lr == 0.003
    assert "learning rate of" not in cell.protocol


def test_one_backbone_without_texts_has_neither_zero_shot_nor_ensembles(world: World) -> None:
    found = tables.run(replace_params(QUICK, seeds=1), one(world.inputs), threads=1)
    assert [(cell.model, cell.head) for cell in found] == [
        ("chance", "baseline"),
        ("majority", "baseline"),
        ("words", "linear"),
        ("words", "mlp"),
    ]
    assert {cell.interval_kind for cell in found} == {"exact", "clustered"}


def test_two_backbones_are_joined_once(world: World) -> None:
    words, mute, _ = world.inputs.features
    given = one(world.inputs, features=(mute, words), texts=world.inputs.texts)
    found = tables.run(replace_params(QUICK, seeds=1, kinds=("linear",)), given, threads=1)
    joined = [cell.model for cell in found if "+" in cell.model]
    assert joined == ["concat: mute + words", "logits: mute + words"]


def test_named_ensembles(world: World) -> None:
    params = replace_params(QUICK, seeds=1, kinds=("linear",), ensembles=(("silent", "mute"),))
    found = tables.run(params, one(world.inputs, features=world.inputs.features), threads=1)
    assert [cell.model for cell in found][-2:] == ["concat: silent + mute", "logits: silent + mute"]
    for members in (("mute",), ("mute", "mute"), ("mute", "loud")):
        with pytest.raises(UsageError, match=r"two or more of the backbones words, mute, silent"):
            tables.run(
                replace_params(params, ensembles=(members,)),
                one(world.inputs, features=world.inputs.features),
            )


def test_items_without_one_of_the_labels(world: World) -> None:
    found = tables.run(replace_params(QUICK, seeds=1), one(world.inputs, labels=("label", "half")), threads=1)
    test = world.ids("test")
    assert pick(found, "words", "linear").n == len(test)
    assert pick(found, "words", "linear", labels="half").n == sum(int(i[4:]) % 2 for i in test)


def test_files_and_json(world: World, out: Path, cells: Sequence[Cell], tmp_path: Path) -> None:
    document = json.loads((out / "cells.json").read_text())["records"]
    promised = {"model", "head", "labels", "split", "seeds", "n", "top1", "top2", "top3", "top1_std"}
    assert all(promised | {"top1_interval", "reference"} <= set(row) for row in document)
    assert len(document) == len(cells)
    assert "| concat: words + mute | mlp |" in (out / "tables.md").read_text()
    assert tables.is_current(out, QUICK, world.inputs)
    assert not tables.is_current(out, replace_params(QUICK, seeds=3), world.inputs)
    assert not tables.is_current(out, QUICK, replace(world.inputs, labels=("label",)))
    assert not tables.is_current(tmp_path, QUICK, world.inputs)


def test_same_inputs_same_bytes(world: World, tmp_path: Path) -> None:
    inputs = one(world.inputs, features=world.inputs.features[:2])
    for name in ("a", "b"):
        tables.run(QUICK, inputs, threads=1, out=tmp_path / name, results=tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 40
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


# ------------------------------------------------------------------ the profile in force

PROFILE = """
profile: tiny
splits: {fifths: {}, turned: {}}
labels: [label]
backbones: {words: {}, mute: {}}
text_backbones: [words]
tables: {seeds: 2, candidates: [0.01], epochs: 3}
"""


@pytest.fixture
def project(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a profile in force and what the earlier stages wrote."""
    root = tmp_path / "runs" / "tiny"
    shutil.copytree(world.inputs.items, root / "items")
    for path in (*world.inputs.features[:2], world.inputs.texts[0], *world.inputs.splits):
        folder = "splits" if path.suffix == ".parquet" else "views/texts" if path.stem == "texts" else "views"
        (root / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / folder / ("words.h5" if path.stem == "texts" else path.name))
    (tmp_path / "params.yaml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPONIJ_THREADS", "1")
    return root


def test_the_profiles_tables_are_computed_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = project / "results" / "tables" / "linear" / "gone" / "fifths-label"
    stale.mkdir(parents=True)
    cells = tables.of_profile()
    assert {(cell.split, cell.labels) for cell in cells} == {("fifths", "label"), ("turned", "label")}
    assert not stale.exists()
    metrics = json.loads((project / "metrics" / "tables.json").read_text())
    assert metrics["turned"]["label"]["words, zero-shot"] == pytest.approx(
        pick(cells, "words", "zero-shot", "turned").top1, abs=1e-6
    )
    calls: list[object] = []
    monkeypatch.setattr(tables, "compute", lambda plan: calls.append(plan) or cells)
    assert tables.of_profile() == cells
    assert calls == []
    tables.of_profile(again=True)
    assert len(calls) == 1
    params = project.parents[1] / "params.yaml"
    params.write_text(PROFILE.replace("seeds: 2", "seeds: 3"))
    tables.of_profile()
    assert len(calls) == 2


def test_a_profile_without_its_texts_names_the_command(project: Path) -> None:
    (project / "views" / "texts" / "words.h5").unlink()
    with pytest.raises(
        StoreError, match=r"extract-text --backbone words --items runs/tiny/items --labels label"
    ):
        tables.of_profile()


# ------------------------------------------------------------------ refusals


def test_missing_text_vectors_name_the_command(world: World, tmp_path: Path) -> None:
    absent = one(world.inputs, texts=(tmp_path / "words.h5",), labels=("label", "kind"))
    with pytest.raises(StoreError) as error:
        tables.run(QUICK, absent)
    assert "deponij extract-text --backbone words --items" in str(error.value)
    assert "--labels label --labels kind --out" in str(error.value)
    few = write_texts(tmp_path / "few.h5", "words", CLASSES[:3], ("{}",))
    with pytest.raises(DataError, match=r"1 classes have no text vectors.*'Lid'[^$]*deponij extract-text"):
        tables.run(replace_params(QUICK, seeds=1, epochs=1), one(world.inputs, texts=(few,)))


def test_texts_of_a_model_that_is_not_there(world: World) -> None:
    inputs = one(world.inputs, features=world.inputs.features[1:2], texts=world.inputs.texts)
    with pytest.raises(IdentityError, match=r"by the model of none of the features:\n  mute: backbone:"):
        tables.run(QUICK, inputs)


def test_an_absent_label_column_lists_those_there_are(world: World) -> None:
    with pytest.raises(UsageError, match=r"no column 'colour'.*label, kind, half"):
        tables.run(QUICK, one(world.inputs, labels=("label", "colour")))


def test_views_of_different_items(world: World, tmp_path: Path) -> None:
    ids, keys = [f"other{row}" for row in range(N)], [key_of_bytes(content(row)) for row in range(N)]
    other = write_features(tmp_path / "mute.h5", "mute", np.ones((N, 8)), ids, keys)
    with pytest.raises(StoreError, match=r"mute\.h5 lacks 480 of 480 items that did not fail"):
        tables.run(QUICK, one(world.inputs, features=(world.inputs.features[0], other)))


def test_an_empty_selection(world: World, tmp_path: Path) -> None:
    ids = [f"item{row}" for row in range(N)]
    write_split(tmp_path / "none.parquet", ids, [None] * N)
    with pytest.raises(DataError, match="no item can be used"):
        tables.run(QUICK, one(world.inputs, splits=(tmp_path / "none.parquet",)))
    write_split(tmp_path / "train.parquet", ids, ["train"] * N)
    with pytest.raises(DataError, match=r"'label' and features in its part val and test; tables need train"):
        tables.run(QUICK, one(world.inputs, splits=(tmp_path / "train.parquet",)))


def test_what_would_make_cells_alike_is_refused(world: World) -> None:
    view, split = world.inputs.features[0], world.inputs.splits[0]
    for changes, what in (
        ({"features": (view, view)}, "backbone; given twice: words"),
        ({"splits": (split, split)}, "split; given twice: fifths"),
        ({"labels": ("label", "label")}, "label column; given twice: label"),
    ):
        with pytest.raises(UsageError, match=what):
            tables.run(QUICK, one(world.inputs, **changes))


def test_rates_of_unknown_backbones_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match=r"\['wordz'\], which are not among words"):
        tables.run(replace_params(QUICK, lrs={"wordz": 1e-3}), one(world.inputs))


def test_a_command_without_all_it_needs_is_told_what_is_missing(world: World) -> None:
    with pytest.raises(UsageError, match=r"there is no --items, --labels\. Without any option"):
        Inputs.given(world.inputs.features, None, None, world.inputs.splits, [])


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there are no tables in .*`deponij tables` makes them"):
        tables.read(tmp_path)
    (tmp_path / "cells.json").write_text('[{"model": "x"}]')
    with pytest.raises(StoreError, match="has no 'checksum': an older version of Deponij wrote it"):
        tables.read(tmp_path)


def test_results_are_evaluations_like_any_other(out: Path) -> None:
    folder = out / "results" / "linear" / "mute" / "turned-kind"
    result = Evaluation.model_validate_json((folder / "result.json").read_bytes())
    assert result.calibration is not None
    assert list(result.parts) == ["train", "val", "test"]


# ------------------------------------------------------------------ the command


def test_the_command_prints_cells_as_json_or_as_tables(world: World, tmp_path: Path) -> None:
    inputs = world.inputs
    flags = [f"--features={path}" for path in inputs.features[:2]]
    flags += [f"--texts={inputs.texts[0]}", f"--items={inputs.items}", f"--split={inputs.splits[0]}"]
    flags += ["--labels=label", "--seeds=1", "--lr=words=0.01", "--lr=mute=0.01", "--threads=1"]
    answered = CliRunner().invoke(app, ["tables", *flags, f"--out={tmp_path}", "--json"])
    assert answered.exit_code == 0, answered.exception
    cells = json.loads(answered.stdout)
    assert [cell["lr"] for cell in cells if cell["model"] == "words" and cell["head"] == "mlp"] == [0.01]
    assert cells == json.loads((tmp_path / "cells.json").read_text())["records"]
    assert (
        tmp_path / "results" / "tables" / "linear" / "words+mute" / "fifths-label" / "result.json"
    ).is_file()
    for width in (100, 140):
        console = Console(width=width, file=io.StringIO())
        print_cells([Cell.model_validate(cell) for cell in cells], console)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        # Nothing is cut off.
        assert not any("…" in line for line in lines)
        assert any(line.split()[:2] == ["zero-shot", "(photo)"] for line in lines)


@pytest.mark.parametrize("rate", ["words", "words=", "=0.1", "words=-1", "words=nan", "words=quick"])
def test_odd_rates_are_refused(rate: str) -> None:
    answered = CliRunner().invoke(
        app, ["tables", "--features=x", "--items=y", "--split=z", "--labels=l", f"--lr={rate}"]
    )
    assert isinstance(answered.exception, UsageError)
    assert "--lr is BACKBONE=RATE with a positive rate" in str(answered.exception)


def write_folds(path: Path, folds: Sequence[int]) -> Path:
    ids = [f"item{row}" for row in range(len(folds))]
    columns = {"item_id": ids, "part": ["test"] * len(ids), "fold": pa.array(folds, pa.int64())}
    write_table(path, pa.table(columns))
    return path


def test_cells_of_folds_are_those_of_as_many_ordinary_splits(world: World, tmp_path: Path) -> None:
    """By brute force: fold k tests, k + 1 validates, the others teach; their test parts together are all items."""
    folds = [row * 7 % 11 % 4 for row in range(N)]
    turns = [
        tuple("test" if fold == k else "val" if fold == (k + 1) % 4 else "train" for fold in folds)
        for k in range(4)
    ]
    ids = [f"item{row}" for row in range(N)]
    for k, parts in enumerate(turns):
        write_split(tmp_path / f"turn{k}.parquet", ids, parts)
    settings = TablesParams(seeds=2, candidates=(1e-2, 3e-2, 1e-1), epochs=4)
    splits = (
        write_folds(tmp_path / "folds.parquet", folds),
        *(tmp_path / f"turn{k}.parquet" for k in range(4)),
    )
    found = tables.run(settings, one(world.inputs, splits=splits), threads=1)
    rates = set()
    for head in ("linear", "mlp"):
        whole = pick(found, "words", head, "folds")
        apart = [pick(found, "words", head, f"turn{k}") for k in range(4)]
        assert (whole.n, whole.n_folds, whole.n_val) == (N, 4, 0)
        assert {cell.n_folds for cell in apart} == {0}
        for name in ("top1", "top2", "top3"):
            together = sum(getattr(cell, name) * cell.n for cell in apart) / N
            assert getattr(whole, name) == pytest.approx(together, abs=1e-5)
        assert whole.lr == median_low(cell.lr for cell in apart)
        rates |= {(whole.lr, max(cell.lr for cell in apart))}
    # Else the median would be no other than any of them.
    assert any(lower < highest for lower, highest in rates)
    # Who answers the most frequent class of all has its share of all right.
    assert pick(found, "majority", "baseline", "folds").top1 == pytest.approx(
        np.bincount(world.codes).max() / N, abs=1e-5
    )


def test_a_class_of_the_first_fold_alone_is_a_column_of_its_tables(world: World, tmp_path: Path) -> None:
    lid = CLASSES.index("Lid")
    folds = [0 if code == lid else row % 3 for row, code in enumerate(world.codes)]
    split = write_folds(tmp_path / "folds.parquet", folds)
    cell = pick(tables.run(QUICK, one(world.inputs, splits=(split,)), threads=1), "words", "linear", "folds")
    assert (cell.n, cell.n_classes) == (N, 4)
    # Of four classes one is never known when it is tested, and no item of it is right.
    assert cell.top1 <= 1 - np.mean(world.codes == lid)
