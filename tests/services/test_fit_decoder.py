"""`deponij fit-decoder`: what can be asked for, and that it means what a profile means."""

from pathlib import Path
from typing import Any

import pytest
import street_world
from cli_world import call, done
from street_world import CLASSES, Street

from deponij.project.segmentation.params import USUAL, DecodersParams
from deponij.services import fit_decoder
from deponij.services.fit_decoder import DecoderRequest
from deponij.store.errors import UsageError
from deponij.store.view import View


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return street_world.make(tmp_path_factory.mktemp("street"))


def asked(street: Street, monkeypatch: pytest.MonkeyPatch, *flags: object) -> DecoderRequest:
    """What the command asks for with these flags."""
    found: list[DecoderRequest] = []

    def keep(request: DecoderRequest, **more: Any) -> None:
        found.append(request)
        raise UsageError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(fit_decoder, "run", keep)
        answer = call("fit-decoder", "--scenes", street.scenes, "--maps", street.maps, *flags)
    assert "enough" in answer.err, answer.err
    return found[0]


def test_what_is_not_named_is_as_in_a_profile(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = asked(street, monkeypatch).parsed()
    assert given == DecodersParams.model_validate({"methods": {"linear": {}}, "words": ["learned"]})
    assert {name: getattr(given.training, name) for name in USUAL} == USUAL


def test_all_that_a_profile_can_say_can_be_asked_for(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--decoder", "fpn", "--set", "width=8", "--set", "training.weight_decay=0.25", "--lr", "0.5"]
    flags += ["--set", "training.optimizer=sgd", "--learn-from", "train,val", "--loss", "boundary"]
    flags += ["--class-weights", "0.5", "--window", "32"]
    request = asked(street, monkeypatch, *flags)
    params, method = request.parsed()
    assert (params.learn_from, params.loss, params.class_weights) == (("train", "val"), "boundary", 0.5)
    assert params.window_px == (32, 32) and dict(method.arguments) == {"width": 8}
    training = method.training
    assert (training.weight_decay, training.optimizer, training.lr) == (0.25, "sgd", 0.5)
    assert (training.batch_size, training.keep) == (USUAL["batch_size"], "last")


def test_wrong_ones_are_named(street: Street) -> None:
    where = ["fit-decoder", "--scenes", street.scenes, "--maps", street.maps]
    for flag, said in (
        ("training.wieght_decay=1", "wieght_decay"),
        ("wdith=8", "wdith"),
        ("width", "an argument is given as NAME=VALUE"),
    ):
        answer = call(*where, "--decoder", "fpn", "--set", flag)
        assert answer.status == 2 and said in answer.err, answer.err
    answer = call(*where, "--learn-from", "train,test")
    assert answer.status == 2 and "learn_from" in answer.err


def test_help_lists_what_can_be_set(street: Street) -> None:
    where = ["fit-decoder", "--scenes", street.scenes, "--maps", street.maps, "--decoder", "fpn"]
    listed = done(*where, "--set", "help", "--json").json
    defaults = {one["name"]: one["default"] for one in listed}
    assert defaults["width"] == "64" and defaults["training.weight_decay"] == "0.0001"
    assert "training.optimizer=adamw  (adam or adamw or sgd)" in done(*where, "--set", "help").out


def test_words_of_scenes_are_made_by_a_command(street: Street, tmp_path: Path) -> None:
    flags = ["--backbone", "mini-openclip", "--depot", tmp_path / "depot"]
    done("extract-text", "--scenes", street.scenes, *flags, "--out", tmp_path / "words.h5")
    columns = View(tmp_path / "words.h5").columns
    assert set(columns["template"].tolist()) == {"names", "descriptions"}
    assert set(columns["group"].tolist()) == {one.name for one in CLASSES}
    flags += ["--template", "photo", "--out", tmp_path / "photo.h5"]
    done("extract-text", "--scenes", street.scenes, *flags)
    assert set(View(tmp_path / "photo.h5").columns["template"].tolist()) == {"photo"}
    answer = call("extract-text", "--scenes", street.scenes, "--texts", tmp_path / "few.txt", *flags)
    assert answer.status == 2 and "give one of --texts FILE, --scenes SCENES" in answer.err
