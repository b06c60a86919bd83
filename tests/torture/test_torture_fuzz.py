"""Whatever stands in a COCO file, params, a view, a sidecar or a card: an answer or an error of ours, never another."""

import copy
import json
from pathlib import Path
from typing import Any

import bad_inputs
import depot_world
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from learning_world import DIM, learned, make_world
from ledger import Ledger, Row
from PIL import Image

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.heads.registry import load_head
from deponij.project.frame.settings import load
from deponij.stages.split import Params
from deponij.store.bundle import MANIFEST
from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.errors import DeponijError
from deponij.store.sealed import CHECKSUM, sealed, sha256_of
from deponij.store.view import View

SECTION = "Fuzzing (hypothesis)"
FEW, MANY = 40, 1500

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["../x", "/etc/passwd", "a\0b", "\ud800", "NaN", "1e999", "!!python/name:os.system", "", " "]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON document."""
    found = [at] if at else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in pairs:
        found += places(one, (*at, name))
    return found


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document in which one to three parts are others, have gone or are there twice."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        ways = places(made)
        if not ways:
            break
        way = draw(st.sampled_from(ways))
        owner = made
        for step in way[:-1]:
            owner = owner[step]
        what = draw(st.sampled_from(["set", "set", "drop", "twice"]))
        if what == "set":
            owner[way[-1]] = draw(VALUES)
        elif what == "drop":
            del owner[way[-1]]
        elif isinstance(owner, list):
            owner.append(copy.deepcopy(owner[way[-1]]))
    return made


def tried(row: Row, work: Any) -> None:
    """Do it; what is not ours passes and fails the test."""
    try:
        work()
        row.add("harmless")
    except DeponijError as error:
        assert str(error).strip()
        row.add("detected")


def examples(n: int) -> Any:
    """So many, the same each time."""
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def coco(n: int, folder: Path, row: Row) -> None:
    Image.new("RGB", (40, 40)).save(folder / "a.png")
    path = folder / "c.json"
    document = bad_inputs.document()
    document["annotations"][0]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    document["annotations"][1]["segmentation"] = {"size": [40, 40], "counts": [10, 20, 1570]}
    document["categories"][0]["supercategory"] = "metal"

    def read() -> None:
        source = open_source("coco", {"annotations": path, "images": folder})
        items = list(source.items(workers=0))
        assert all(one.failure for one in items if one.content is None)

    @examples(n)
    @given(changed(document))
    def fuzz(made: Any) -> None:
        path.write_text(json.dumps(made))
        tried(row, read)

    @examples(n // 2)
    @given(st.binary(max_size=200))
    def noise(data: bytes) -> None:
        path.write_bytes(data)
        tried(row, read)

    fuzz()
    noise()


def params(n: int, folder: Path, row: Row) -> None:
    import yaml

    document = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text())
    path = folder / "params.yaml"

    @examples(n)
    @given(changed(document))
    def fuzz(made: Any) -> None:
        path.write_text(json.dumps(made), errors="surrogatepass")
        tried(row, lambda: load(Params, path))

    @examples(n)
    @given(st.text(alphabet="ab: -[]{}&*!|>'\"\n\t#%@,?1.", max_size=80))
    def noise(text: str) -> None:
        path.write_text(text)
        tried(row, lambda: load(Params, path))

    fuzz()
    noise()


def sidecars(n: int, folder: Path, row: Row) -> None:
    """With a checksum that fits, as a program would write one that means harm."""
    depot_world.fill(FeatureStore(folder / "depot", create=True), range(4))
    path = next((folder / "depot").glob("*/*.json"))
    document = json.loads(path.read_bytes())
    document.pop(CHECKSUM)
    keys = depot_world.keys_of(range(4))
    right = depot_world.vectors(keys, "fp32")

    def read() -> None:
        found = FeatureStore(folder / "depot").read(keys, depot_world.CLIP, ["embedding"])["embedding"]
        np.testing.assert_array_equal(found, right)

    @examples(n)
    @given(changed(document))
    def fuzz(made: Any) -> None:
        data = sealed(made) if isinstance(made, dict) else json.dumps(made).encode()
        path.write_bytes(data)
        tried(row, read)

    marker = folder / "depot" / FORMAT_FILE
    sound = path.read_bytes(), marker.read_bytes()

    @examples(n // 4)
    @given(changed(json.loads(sound[1])))
    def fuzz_marker(made: Any) -> None:
        marker.write_text(json.dumps(made))
        tried(row, read)

    fuzz()
    fuzz_marker()


def views(n: int, folder: Path, row: Row) -> None:
    """Attributes and arrays of an HDF5 file that others wrote over."""
    world = make_world(folder / "world")
    sound, path = world.features.read_bytes(), folder / "view.h5"
    with h5py.File(world.features) as file:
        attributes = sorted(file.attrs)
        names: list[str] = []
        file.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    right = View(world.features).embedding

    def read() -> None:
        view = View(path)
        np.testing.assert_array_equal(view.embedding, right)
        assert len(view.ids) == len(right) and view.failures and view.columns is not None

    arrays = st.one_of(
        st.lists(st.integers(-5, 5), max_size=4).map(lambda one: np.array(one, np.int64)),
        st.lists(st.binary(max_size=5), min_size=1, max_size=4).map(
            lambda one: np.array([x or b"a" for x in one], "S5")
        ),
        st.floats(width=32).map(np.float32),
    )

    @examples(n)
    @given(st.sampled_from(attributes) | st.none(), st.text(max_size=30), st.sampled_from(names), arrays)
    def fuzz(attribute: str | None, text: str, name: str, values: Any) -> None:
        path.write_bytes(sound)
        with h5py.File(path, "r+") as file:
            if attribute is not None:
                file.attrs[attribute] = np.bytes_(text.encode("utf-8", "replace") or b"x")
            else:
                del file[name]
                file[name] = values
        tried(row, read)

    fuzz()


def cards(n: int, folder: Path, row: Row) -> None:
    """A head's card, with a manifest that fits."""
    world, head = make_world(folder / "world"), folder / "head"
    learned(world, "logistic", head)
    card, manifest = head / "head.json", head / MANIFEST
    document, listed = json.loads(card.read_bytes()), json.loads(manifest.read_bytes())
    listed.pop(CHECKSUM)
    rows = np.random.default_rng(0).normal(size=(3, DIM))

    @examples(n)
    @given(changed(document))
    def fuzz(made: Any) -> None:
        data = json.dumps(made).encode("utf-8", "surrogatepass")
        card.write_bytes(data)
        entry = {"size_bytes": len(data), "sha256": sha256_of(data)}
        manifest.write_bytes(sealed({**listed, "files": {**listed["files"], "head.json": entry}}))
        tried(row, lambda: load_head(head).decision_function(rows))

    fuzz()


READERS = {"COCO files": coco, "params": params, "sidecars": sidecars, "views": views, "cards": cards}


@pytest.mark.parametrize("name", READERS)
def test_a_little(name: str, tmp_path: Path) -> None:
    READERS[name](FEW, tmp_path, Row(SECTION, name))


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", READERS)
def test_a_lot(name: str, tmp_path: Path, ledger: Ledger) -> None:
    READERS[name](MANY, tmp_path, ledger.row(SECTION, name))
