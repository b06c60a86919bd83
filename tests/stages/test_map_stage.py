"""The stage and command of maps: the table that it writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_world import done
from learning_world import World, make_world, write_features
from under_dvc import under_dvc

from deponij.project.frame.layout import Layout
from deponij.stages import map as mapping
from deponij.stages.map import MapParams
from deponij.store.errors import DataError, UsageError
from deponij.store.view import View

QUICK = MapParams(iterations=250)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def write(path: Path, embedding: np.ndarray, kind: str = "embedding") -> Path:
    names = [f"i{row}" for row in range(len(embedding))]
    write_features(path, names, names, embedding.astype(np.float32), kind=kind)
    return path


def test_a_place_for_every_item(world: World, tmp_path: Path) -> None:
    facts = mapping.run(QUICK, features=world.features, out=tmp_path / "m.parquet")
    table, view = pq.read_table(tmp_path / "m.parquet"), View(world.features)
    assert table.schema.names == ["item_id", "pca_x", "pca_y", "tsne_x", "tsne_y"]
    assert {str(field.type) for field in table.schema} == {"string", "float"}
    assert table["item_id"].to_pylist() == view.ids.tolist()
    assert all(table[name].null_count == 0 for name in table.schema.names)
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert (metadata["backbone"], metadata["fingerprint"]) == ("tiny", view.fingerprint)
    assert json.loads(metadata["settings"]) == facts.model_dump(mode="json")
    assert (facts.n, facts.n_tsne, facts.perplexity) == (118, 118, 30.0)


def test_same_inputs_same_bytes(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        mapping.run(QUICK, features=world.features, out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_items_outside_the_sample_are_null(world: World, tmp_path: Path) -> None:
    mapping.run(MapParams(iterations=250, max_items=50), features=world.features, out=tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    assert table["tsne_x"].null_count == table["tsne_y"].null_count == 118 - 50
    assert table["pca_x"].null_count == 0


def test_four_items_have_no_tsne(tmp_path: Path) -> None:
    view = write(tmp_path / "v.h5", np.random.default_rng(0).normal(size=(4, 3)))
    facts = mapping.run(QUICK, features=view, out=tmp_path / "m.parquet")
    assert (facts.n_tsne, facts.perplexity) == (0, None)
    assert pq.read_table(tmp_path / "m.parquet")["tsne_x"].null_count == 4
    assert "no t-SNE, which takes at least five" in done("map", "--features", view).out


def test_under_dvc_and_command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "command.parquet"
    facts = done("map", "--features", world.features, "--out", out, "--json").json
    at = Layout.of("tiny")
    monkeypatch.chdir(tmp_path)
    at.view("b").parent.mkdir(parents=True)
    for backbone in ("b", "c"):
        at.view(backbone).symlink_to(world.features)
    Path("params.yaml").write_text("profile: tiny\nbackbones: {b: {}, c: {}}\n")
    under_dvc(mapping)
    assert at.map("b").read_bytes() == at.map("c").read_bytes() == out.read_bytes()
    assert facts["n"] == 118


def test_a_backbone_whose_features_are_all_the_same_costs_the_others_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Layout.of("tiny")
    monkeypatch.chdir(tmp_path)
    at.view("fine").parent.mkdir(parents=True)
    at.view("fine").symlink_to(world.features)
    for backbone in ("flat", "still"):
        write(at.view(backbone), np.ones((9, 3)))
    Path("params.yaml").write_text("profile: tiny\nbackbones: {flat: {}, fine: {}, still: {}}\n")
    with pytest.raises(DataError, match=r"^flat, still: all 9 items have the same"):
        under_dvc(mapping)
    assert at.map("fine").is_file()


def test_bad_input_is_named(tmp_path: Path) -> None:
    for embedding, message in (
        (np.ones((9, 3)), "all 9 items have the same"),
        (np.full((9, 3), np.inf), "9 of 9 rows hold NaN or infinite"),
        (np.zeros((0, 3)), "no items to lay out"),
    ):
        with pytest.raises(DataError, match=message):
            mapping.run(QUICK, features=write(tmp_path / "v.h5", embedding))
    with pytest.raises(UsageError, match="of kind 'text'; a map needs `embedding`"):
        mapping.run(QUICK, features=write(tmp_path / "t.h5", np.eye(3), kind="text"))
