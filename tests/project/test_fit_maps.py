"""Heads that read maps from the depot, and heads of vectors on one token of a view."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_world import DIM, World, dense_identity, grids, make_world, write_features, write_maps

from deponij.pipeline.heads.registry import load_head
from deponij.project.learning import compare
from deponij.project.learning.learn import HeadParams, HeadResult
from deponij.project.learning.learn import learn as learn_head
from deponij.project.learning.reading import StoredMaps
from deponij.project.learning.result_files import read_judged
from deponij.store.atomic import read_table, write_table
from deponij.store.depot import FeatureStore
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.reading import MapReader
from deponij.store.view import View

QUICK = {"lrs": [0.01, 0.03], "epochs": 12, "batch": 16, "n_queries": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def learn(
    world: World, head: str, *features: Path, arguments: dict[str, Any] | None = None, **more: Any
) -> HeadResult:
    params = HeadParams(head=head, arguments=arguments or {}, token=more.pop("token", None))
    inputs = {"items": world.items, "split": world.split, "labels": "label", "depot": str(world.depot)}
    return learn_head(params, features=features or [world.maps], **{**inputs, **more})


def test_an_attentive_probe_is_learned_from_the_depot(world: World, tmp_path: Path) -> None:
    result = learn(world, "attentive", arguments=QUICK, out=tmp_path / "out")
    assert result.method == "attentive" and result.dim == DIM
    assert result.parts["test"].top1 > 0.7
    judged = read_judged(tmp_path / "out")
    head, view = load_head(tmp_path / "out"), View(world.maps, FeatureStore(world.depot))
    maps = view.maps(judged.predictions.ids.tolist())["block1"]
    assert head.predict(maps).tolist() == judged.predictions.top_labels[:, 0].tolist()
    (source,) = head.sources_
    assert source.fingerprint == view.fingerprint and source.token is None


def test_it_is_compared_item_by_item_with_a_probe_on_the_mean(world: World, tmp_path: Path) -> None:
    learn(world, "attentive", arguments=QUICK, out=tmp_path / "attentive")
    mean = learn(world, "logistic", token="mean", out=tmp_path / "mean")
    assert mean.title == "linear probe (logistic regression) on the mean token"
    found = compare.run(tmp_path / "attentive", tmp_path / "mean")
    assert found.n == mean.parts["test"].n and found.difference.interval is not None


def test_the_mean_of_maps_is_their_mean(world: World, tmp_path: Path) -> None:
    """The same as a view of embeddings that holds these means."""
    view = View(world.maps, FeatureStore(world.depot))
    means = view.maps(view.ids.tolist())["block1"].astype(np.float64).mean(axis=(2, 3)).astype(np.float32)
    write_features(
        tmp_path / "means.h5", view.ids.tolist(), view.keys.tolist(), means, failures=view.failures
    )
    learn(world, "logistic", token="mean", out=tmp_path / "a")
    learn(world, "logistic", tmp_path / "means.h5", out=tmp_path / "b")
    assert (tmp_path / "a/logits.npy").read_bytes() == (tmp_path / "b/logits.npy").read_bytes()
    assert load_head(tmp_path / "a").sources_[0].token == "mean"


@pytest.mark.parametrize(("token", "place"), [("class", 0), ("mean", 1)])
def test_one_token_of_the_last_block(world: World, tmp_path: Path, token: str, place: int) -> None:
    view = View(world.features)
    tokens = np.random.default_rng(0).normal(size=(len(view), 2, 2, DIM)).astype(np.float32)
    tokens[:, 1, place] = view.embedding
    ids, keys = view.ids.tolist(), view.keys.tolist()
    write_features(tmp_path / "tokens.h5", ids, keys, tokens, kind="tokens@2", failures=view.failures)
    learn(world, "logistic", tmp_path / "tokens.h5", token=token, out=tmp_path / "a")
    learn(world, "logistic", world.features, out=tmp_path / "b")
    assert (tmp_path / "a/logits.npy").read_bytes() == (tmp_path / "b/logits.npy").read_bytes()
    with pytest.raises(
        UsageError, match=r"kind 'tokens@2'; this needs `embedding`, or say which token .*--token class"
    ):
        learn(world, "logistic", tmp_path / "tokens.h5")


def test_maps_are_read_a_few_at_a_time(world: World) -> None:
    view = View(world.maps, FeatureStore(world.depot))
    maps = StoredMaps(MapReader(view), view.ids)
    some = maps[np.array([5, 3])]
    assert len(maps) == len(view) and some.shape == (2, DIM, 2, 3)
    ids = view.ids[[5, 3]].tolist()
    np.testing.assert_array_equal(np.asarray(some), view.maps(ids)["block1"])
    assert len(maps[view.ids == view.ids[0]]) == 1 and np.asarray(maps[:0]).shape == (0, DIM, 2, 3)


def test_folds(world: World, tmp_path: Path) -> None:
    """Every item is tested once by a head that has not learned from its fold."""
    table = read_table(world.split).to_pydict()
    folds = [None if part is None else i // 4 % 4 for i, part in enumerate(table["part"])]
    parts = [None if part is None else "test" for part in table["part"]]
    import pyarrow as pa

    write_table(
        tmp_path / "folds.parquet",
        pa.table({"item_id": table["item_id"], "part": parts, "fold": pa.array(folds, pa.int64())}),
    )
    result = learn(
        world, "attentive", arguments=QUICK, split=tmp_path / "folds.parquet", out=tmp_path / "out"
    )
    assert result.n_folds == 4 and result.parts["test"].top1 > 0.7
    assert result.protocol.startswith("4 folds")
    assert load_head(tmp_path / "out").chosen_on_ == "nothing"


def test_stored_flips_beside(world: World, tmp_path: Path) -> None:
    view = View(world.maps, FeatureStore(world.depot))
    flipped = view.maps(view.ids.tolist())["block1"][..., ::-1]
    flip = tmp_path / "flip.h5"
    write_maps(flip, world.depot, world.features, kind="dense@1+flip", block1=np.ascontiguousarray(flipped))
    arguments = {**QUICK, "flip": True}
    result = learn(world, "attentive", world.maps, flip, arguments=arguments, out=tmp_path / "out")
    assert "stored flips" in result.protocol and len(load_head(tmp_path / "out").sources_) == 1
    with pytest.raises(DataError, match=r"\+flip"):
        learn(world, "attentive", arguments=arguments)
    with pytest.raises(UsageError, match="got 2 and 0"):
        learn(world, "attentive", world.maps, world.maps)
    other = tmp_path / "other.h5"
    write_maps(other, world.depot, world.features, kind="dense@2+flip", block1=flipped)
    with pytest.raises(IdentityError, match="kind"):
        learn(world, "attentive", world.maps, other, arguments=arguments)


def test_a_depot_that_is_not_there_is_named_with_the_ways_to_it(world: World, tmp_path: Path) -> None:
    ways = (
        "deponij depot merge OTHER .*deponij extract .*--kind dense@1 --input-px 28 42 --decode full --items"
    )
    with pytest.raises(StoreError, match=rf"maps\.h5 names maps .* there is no depot at .*nowhere.*{ways}"):
        learn(world, "attentive", depot=str(tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    FeatureStore(empty, create=True)
    n = len(View(world.maps))
    with pytest.raises(StoreError, match=rf"{empty} lacks the maps of {n} of {n} .*{ways}"):
        learn(world, "attentive", depot=str(empty))


def test_what_does_not_fit_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="kind 'embedding'; this needs `dense@1`"):
        learn(world, "attentive", world.features)
    with pytest.raises(UsageError, match="kind 'dense@1'; this needs `embedding`, or the mean of the maps"):
        learn(world, "logistic")
    with pytest.raises(UsageError, match="kind 'dense@1'"):
        learn(world, "logistic", token="class")
    with pytest.raises(UsageError, match="leave `--token mean` out"):
        learn(world, "attentive", token="mean")
    two = tmp_path / "two.h5"
    maps = grids(np.zeros((len(View(world.features)), DIM)))
    write_maps(two, world.depot, world.features, kind="dense@2", block0=maps, block1=maps)
    with pytest.raises(UsageError, match=r"2 maps an item \(block0, block1\)"):
        learn(world, "attentive", two)


def test_maps_that_were_changed_in_the_depot_are_refused(world: World, tmp_path: Path) -> None:
    view = View(world.maps)
    zeros = grids(np.zeros((len(view), DIM)))
    with FeatureStore(tmp_path / "depot", create=True).writer(dense_identity(), {"torch": "2"}) as writer:
        writer.add(view.keys.tolist(), {"block1": zeros})
    with pytest.raises(StoreError, match="are not those that .* the first: 'photo"):
        learn(world, "attentive", depot=str(tmp_path / "depot"))
