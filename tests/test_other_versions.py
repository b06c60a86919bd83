"""Files of another version, which are sound but have other fields: one error with the file, or the same answer.

Every field of every document and every column of every table is dropped, renamed and given values of other types, and
the file gets checksums that fit.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_world import make_report_world
from resealing import relist
from test_flips import (
    Kind,
    of_decoders,
    of_indexes,
    of_machine,
    of_multilabel,
    of_results,
    of_scenes,
    of_segmentation,
    plain,
)

from deponij.pipeline.advice.records import ADVICE
from deponij.pipeline.likeness.records import LIKENESS
from deponij.pipeline.metrics.curves import CURVES
from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.pipeline.mistakes.records import MISTAKES
from deponij.pipeline.reports.cells import CELLS
from deponij.project.frame.layout import Layout
from deponij.project.learning.results import read_examples
from deponij.project.learning.zero_shot_answers import read_answers
from deponij.project.report.inputs import read_embedding, read_records, split_facts
from deponij.store.atomic import write_table
from deponij.store.bundle import MANIFEST
from deponij.store.errors import DeponijError
from deponij.store.items import CORE, Items
from deponij.store.manifest import MANIFEST as ITEMS_MANIFEST
from deponij.store.manifest import write_manifest
from deponij.store.sealed import sealed, unsealed
from deponij.store.view import View

RECORDS: dict[str, Any] = {
    "retrieval": RETRIEVAL,
    "curves": CURVES,
    "mistakes": MISTAKES,
    "likeness": LIKENESS,
    "advice": ADVICE,
}
VALUES: tuple[Any, ...] = (True, "x", 3, 2.5, [], ["x"], {}, {"x": 1})
# In long lists the first record stands for all.
_RECORDS = 1


def fields_of(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all fields of all objects."""
    if isinstance(document, dict):
        keys_are_data = path[-1:] in (("micro",), ("macro",)) or path[-3:-1] == ("classes", 0)
        for name, value in document.items():
            if not keys_are_data:
                yield (*path, name)
            yield from fields_of(value, (*path, name))
    elif isinstance(document, list):
        for place, value in enumerate(document[:_RECORDS]):
            yield from fields_of(value, (*path, place))


def changed(document: Any, path: tuple[Any, ...], rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
    """A field dropped, renamed, and of two other types."""

    def having(change: Callable[[dict[str, Any], str], None]) -> Any:
        found = copy.deepcopy(document)
        owner = found
        for step in path[:-1]:
            owner = owner[step]
        change(owner, path[-1])
        return found

    value = document
    for step in path:
        value = value[step]
    yield "dropped", having(lambda owner, name: owner.pop(name))
    yield "renamed", having(lambda owner, name: owner.update({f"{name}_": owner.pop(name)}))
    # A whole number is a real one, and what may be null has a type that is not told here.
    same = {float: (int, float), type(None): tuple(map(type, VALUES))}.get(type(value), (type(value),))
    others = [one for one in VALUES if type(one) not in same]
    for place in rng.choice(len(others), min(2, len(others)), replace=False):
        yield (
            f"now {others[place]!r}",
            having(lambda owner, name, new=others[place]: owner.update({name: new})),
        )


def check(kind: Kind, path: Path, what: str, right: Any, write: Callable[[], None]) -> str:
    """Write, read, restore."""
    folder = {one: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}
    try:
        write()
        answer = plain(kind.read())
    except DeponijError as error:
        return "refused" if str(error) else f"no words for {what}"
    except Exception as error:  # noqa: BLE001 - whatever a user would see as a traceback
        return f"{type(error).__name__} for {kind.name}, {path.name}: {what}: {error}"
    finally:
        for one, raw in folder.items():
            one.write_bytes(raw)
    return "the same" if answer == right else f"another answer for {kind.name}, {path.name}: {what}"


def of_json(kind: Kind, path: Path, right: Any) -> Iterator[str]:
    is_bundle = (path.parent / MANIFEST).is_file()
    document = json.loads(path.read_bytes()) if is_bundle else unsealed(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in fields_of(document):
        for what, other in changed(document, place, rng):

            def write(other: Any = other) -> None:
                path.write_bytes(json.dumps(other).encode() if is_bundle else sealed(other))
                if is_bundle:
                    relist(path.parent)

            yield check(kind, path, f"{'.'.join(map(str, place))} {what}", right, write)


def retyped(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    yield pa.array([7] * len(column), pa.int32())
    yield pa.array([b"x"] * len(column), pa.binary())
    yield pa.array([["x"]] * len(column), pa.list_(pa.string()))
    if pa.types.is_string(column.type):
        yield pa.array([None] * len(column), column.type)


def of_table(kind: Kind, path: Path, right: Any) -> Iterator[str]:
    table = pq.read_table(path)
    for place, name in enumerate(table.column_names):
        if kind.name == "items" and name not in CORE.names:
            continue  # A label is what its column holds.
        others = {
            "dropped": table.drop_columns([name]),
            "renamed": table.rename_columns(
                [f"{one}_" if one == name else one for one in table.column_names]
            ),
            **{f"now {one.type}": table.set_column(place, name, one) for one in retyped(table[name])},
        }
        for what, other in others.items():
            if (name, what) == ("image_id", "now string"):
                continue  # An item without a photograph is one by itself.
            if (kind.name, name, what) == ("scenes", "part", "now string"):
                continue  # A picture without a part is in none.

            def write(other: pa.Table = other) -> None:
                write_table(path, other)
                if (path.parent / MANIFEST).is_file():
                    relist(path.parent)
                elif (path.parent / ITEMS_MANIFEST).is_file():
                    write_manifest(path.parent)

            yield check(kind, path, f"{name} {what}", right, write)


def every_outcome(kind: Kind) -> Iterator[str]:
    right = plain(kind.read())
    for path in kind.files:
        if path.suffix == ".json" and path.name != MANIFEST:
            yield from of_json(kind, path, right)
        elif path.suffix == ".parquet":
            yield from of_table(kind, path, right)


def fuzzed(kinds: list[Kind]) -> None:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for kind in kinds:
        outcomes = list(every_outcome(kind))
        assert outcomes
        counts.update(one for one in outcomes if one in ("refused", "the same"))
        wrong += [one for one in outcomes if one not in ("refused", "the same")]
    print(dict(counts), len(wrong), "others", *wrong[:20], sep="\n")
    assert wrong == []
    assert counts["refused"] > counts["the same"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("versions")


@pytest.fixture(scope="module")
def records(root: Path) -> list[Kind]:
    made = make_report_world(root / "report")
    parts, world = made.parts, made.world
    (split,), (places,) = parts["split_reports"], parts["maps"]

    def examples() -> Any:
        return read_examples(View(world.features), Items(world.items), world.split, "label")

    found = [
        Kind("split's report", [split], lambda: split_facts(split)),
        Kind("split", [world.split], examples),
        Kind("items", sorted(world.items.glob("*.parquet")), examples),
        Kind("map", [places], lambda: read_embedding(places)),
        Kind("cells", [parts["cells"]], lambda: read_records([parts["cells"]], CELLS, "")),
        Kind("answers", parts["answers"], lambda: read_answers(parts["answers"][0])),
    ]
    for name, records in RECORDS.items():
        path = parts[name] if isinstance(parts[name], Path) else parts[name][0]
        read = lambda path=path, records=records: read_records([path], records, "")  # noqa: E731
        found.append(Kind(name, [path], read))
    others = [
        one
        for one in of_machine(root / "machine")
        if one.name in ("weights' record", "times", "run's record")
    ]
    return [*found, *others]


def test_records(records: list[Kind]) -> None:
    fuzzed(records)


@pytest.mark.parametrize(
    "names",
    [("zero-shot", "stacking"), pytest.param((), marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_results_and_what_was_learned(root: Path, names: tuple[str, ...]) -> None:
    place = root / f"results{len(names)}"
    made = make_report_world(place)
    kinds = list(of_results(made.world, Layout(place)))
    fuzzed([one for one in kinds if not names or one.name.removeprefix("results of ") in names])


def test_multilabel_results(root: Path) -> None:
    fuzzed(list(of_multilabel(root / "multilabel")))


def test_decoders(root: Path) -> None:
    fuzzed(list(of_decoders(root / "decoders")))


def test_segmentation_results(root: Path) -> None:
    fuzzed(list(of_segmentation(root / "segmentation")))


def test_indexes(root: Path) -> None:
    (root / "indexes").mkdir()
    fuzzed(list(of_indexes(root / "indexes")))


def test_scenes(root: Path) -> None:
    fuzzed(list(of_scenes(root / "scenes")))
