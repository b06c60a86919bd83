"""What every ensemble of the registry keeps: shapes, determinism, saving, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from dealt_anew import choices, dealt_anew, top1_of_test
from learning_world import learned, make_world
from resealing import relist, rewrite
from safetensors.numpy import load_file

from deponij.pipeline import ensembles
from deponij.pipeline.ensembles.ensemble import ENSEMBLES, Ensemble, MemberSource, folds
from deponij.pipeline.ensembles.registry import ensemble_class, kinds, load_ensemble, register
from deponij.pipeline.registry import names_in
from deponij.stages import ensembles as stage
from deponij.stages.ensembles import EnsemblesParams
from deponij.store.errors import DataError, StoreError, UsageError

CLASSES = ("bottle", "can", "cup", "lid")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results of three heads in a world, and in the same with the labels of its test part dealt anew."""
    world = make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)
    folders = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for folder, one in zip(folders, (world, dealt_anew(world, tmp_path_factory.mktemp("anew"))), strict=True):
        for head in ("logistic", "knn", "centroid"):
            learned(one, head, folder / head)
    return folders


@pytest.fixture(params=kinds())
def ensemble(request: pytest.FixtureRequest) -> Ensemble:
    return ensemble_class(request.param)()


def members(n: int, seed: int, noises: tuple[float, ...] = (1.0, 1.5, 4.0)) -> tuple[np.ndarray, np.ndarray]:
    """Members that are right but for noise of their own, the last one hardly ever; [m, n, 4] and [n]."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 4
    logits = [3 * np.eye(4)[codes] + noise * rng.normal(size=(n, 4)) for noise in noises]
    return np.array(logits), codes


def sources(n_members: int) -> list[MemberSource]:
    return [
        MemberSource(
            method="linear",
            backbone=f"b{i}",
            fingerprint="f" * 20,
            folder=f"../{i}",
            sha256="0" * 64,
            share=1 / n_members,
        )
        for i in range(n_members)
    ]


@pytest.fixture
def fitted(ensemble: Ensemble) -> Ensemble:
    return ensemble.fit(*members(80, seed=0))


def test_better_than_its_members_alone(fitted: Ensemble) -> None:
    logits, codes = members(2000, seed=1)
    alone = (logits.argmax(axis=2) == codes).mean(axis=1)
    assert (fitted.combine(logits).argmax(axis=1) == codes).mean() > alone.mean() + 0.05


def test_shapes_and_shares(fitted: Ensemble) -> None:
    logits, _ = members(7, seed=2)
    found = fitted.combine(logits)
    assert found.shape == (7, 4)
    assert np.isfinite(found).all()
    assert fitted.combine(logits[:, :0]).shape == (0, 4)
    assert fitted.shares_.shape == (3,)
    assert (fitted.shares_ >= 0).all()
    assert fitted.shares_.sum() == pytest.approx(1)


def test_items_are_answered_one_by_one(fitted: Ensemble) -> None:
    logits, _ = members(9, seed=3)
    single = np.concatenate([fitted.combine(logits[:, i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(single, fitted.combine(logits), rtol=1e-9, atol=1e-9)


def test_one_member_keeps_its_answers(ensemble: Ensemble) -> None:
    logits, codes = members(80, seed=4, noises=(1.0,))
    found = ensemble.fit(logits, codes).combine(logits)
    if ensemble.kind != "stacking":  # which may learn which classes that one confuses
        assert (found.argmax(axis=1) == logits[0].argmax(axis=1)).all()
    assert ensemble.shares_.tolist() == [1]


def test_deterministic(ensemble: Ensemble, fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "a", sources(3), CLASSES)
    type(ensemble)().fit(*members(80, seed=0)).save(tmp_path / "b", sources(3), CLASSES)
    assert (tmp_path / "a" / ENSEMBLES.card_name).read_bytes() == (
        tmp_path / "b" / ENSEMBLES.card_name
    ).read_bytes()


@pytest.mark.parametrize("kind", kinds())
def test_labels_of_the_test_part_choose_nothing(worlds: tuple[Path, Path], kind: str) -> None:
    """Members, weights, temperatures and answers are the same to the byte; only figures of test move."""
    for folder in worlds:
        stage.run(kind, [folder / head for head in ("logistic", "knn", "centroid")], out=folder / kind)
    first, second = (folder / kind for folder in worlds)
    assert choices(first) == choices(second)
    assert top1_of_test(first) > top1_of_test(second) + 0.2


def test_saved_and_loaded(fitted: Ensemble, tmp_path: Path) -> None:
    logits, _ = members(20, seed=5)
    fitted.save(tmp_path, sources(3), CLASSES)
    again, card = load_ensemble(tmp_path)
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.combine(logits), fitted.combine(logits))
    assert again.protocol == fitted.protocol == card.protocol
    assert (card.classes, [member.folder for member in card.members]) == (CLASSES, ["../0", "../1", "../2"])
    again.save(tmp_path / "again", card.members, card.classes)
    assert (tmp_path / "again" / ENSEMBLES.card_name).read_bytes() == (
        tmp_path / ENSEMBLES.card_name
    ).read_bytes()


def test_the_card_says_how_to_combine(fitted: Ensemble, tmp_path: Path) -> None:
    # Someone without this project has the JSON, the tensors and numpy.
    logits, _ = members(20, seed=6)
    fitted.save(tmp_path, sources(3), CLASSES)
    card = json.loads((tmp_path / ENSEMBLES.card_name).read_text())
    tensors = (
        load_file(tmp_path / ENSEMBLES.tensors_name) if (tmp_path / ENSEMBLES.tensors_name).exists() else {}
    )
    assert all(array.dtype == np.float32 for array in tensors.values())
    scope = {"np": np, "members": logits} | card["learned"] | card["params"] | tensors
    exec(card["apply"], scope)
    np.testing.assert_allclose(scope["logits"], fitted.combine(logits), rtol=1e-5, atol=1e-5)


def test_validation_is_asked_for_where_it_is_needed(ensemble: Ensemble) -> None:
    logits, codes = members(0, seed=7)
    if ensemble.chooses:
        with pytest.raises(DataError, match="no validation items"):
            ensemble.fit(logits, codes)
    else:
        assert ensemble.fit(logits, codes).combine(members(3, seed=8)[0]).shape == (3, 4)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if ensemble_class(kind).chooses])
def test_validation_is_answered_out_of_fold(kind: str) -> None:
    logits, codes = members(60, seed=12)
    found = ensemble_class(kind)().fit(logits, codes).out_of_fold(logits, codes)
    assert found is not None
    if kind != "stacking":  # which chooses its penalty by all folds together
        for number in range(5):
            rest, rows = folds(codes) != number, folds(codes) == number
            alone = ensemble_class(kind)().fit(logits[:, rest], codes[rest]).combine(logits[:, rows])
            np.testing.assert_array_equal(found[rows], alone)
    # Members that know nothing are answered like that: fitted weights are right more often on their own items.
    rng = np.random.default_rng(0)
    logits, codes = rng.normal(size=(40, 100, 2)), rng.integers(0, 2, size=100)
    ensemble = ensemble_class(kind)().fit(logits, codes)
    assert (
        abs((ensemble.out_of_fold(logits, codes).argmax(axis=1) == codes).mean() - 0.5)
        < 3 * (0.25 / 100) ** 0.5
    )


def test_one_validation_item_is_enough(ensemble: Ensemble) -> None:
    logits, codes = members(1, seed=9)
    assert np.isfinite(ensemble.fit(logits, codes).combine(members(5, seed=8)[0])).all()


def test_members_that_are_sure_of_everything_stay_finite(ensemble: Ensemble) -> None:
    logits, codes = members(40, seed=10)
    found = ensemble.fit(1e4 * logits, codes).combine(1e4 * logits)
    assert np.isfinite(found).all()


def test_bad_logits_are_refused(ensemble: Ensemble, fitted: Ensemble) -> None:
    logits, codes = members(12, seed=11)
    with pytest.raises(DataError, match="fitted on 3 members and 4 classes, got 2 and 4"):
        fitted.combine(logits[:2])
    with pytest.raises(DataError, match="got 3 and 3"):
        fitted.combine(logits[:, :, :3])
    with pytest.raises(DataError, match=r"columns 0\.\.3, got 0\.\.9"):
        type(ensemble)().fit(logits, np.where(codes == 3, 9, codes))
    with pytest.raises(DataError, match="12 items"):
        type(ensemble)().fit(logits, codes[:5])
    logits[1, 3, 2] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 members hold NaN or infinite values \(members \[1\]\)"):
        type(ensemble)().fit(logits, codes)
    with pytest.raises(DataError, match="at least one, got shape"):
        type(ensemble)().fit(np.zeros((0, 5, 4)), np.zeros(5))
    with pytest.raises(DataError, match="learned nothing"):
        type(ensemble)().combine(members(2, seed=0)[0])


def test_damage_is_found(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path, sources(3), CLASSES)
    if (tmp_path / ENSEMBLES.tensors_name).exists():
        (tmp_path / ENSEMBLES.tensors_name).unlink()
        with pytest.raises(StoreError, match="is missing"):
            load_ensemble(tmp_path)
    rewrite(tmp_path / ENSEMBLES.card_name, lambda card: card | {"format": 9})
    with pytest.raises(StoreError, match="newer format"):
        load_ensemble(tmp_path)
    (tmp_path / ENSEMBLES.card_name).unlink()
    relist(tmp_path)
    with pytest.raises(StoreError, match="no ensembles in"):
        load_ensemble(tmp_path)


def test_another_kind_is_refused(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path, sources(3), CLASSES)
    other = next(kind for kind in kinds() if kind != ENSEMBLES.read_card(tmp_path).kind)
    with pytest.raises(StoreError, match="the ensemble in .* is of kind"):
        ensemble_class(other).load(tmp_path)


def test_an_unknown_kind_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"unknown ensemble 'gredy'. Did you mean 'greedy'\? Known: calibrated, "
    ):
        ensemble_class("gredy")


def test_a_kind_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"taken by deponij\.pipeline\.ensembles\.greedy"):
        register("greedy")(type("Other", (Ensemble,), {}))


def test_every_module_is_in_the_registry_and_every_kind_in_the_command_and_the_stage() -> None:
    folder = Path(ensembles.__file__).parent
    with_kinds = {path.stem for path in folder.glob("*.py") if "\n@register(" in path.read_text()}
    assert {ensemble_class(kind).__module__.rpartition(".")[2] for kind in kinds()} == with_kinds
    assert set(kinds()) == set(names_in("deponij.pipeline.ensembles")) == set(EnsemblesParams().how)
