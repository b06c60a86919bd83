"""`deponij fit-decoder`: what can be asked for, and that it means what a profile means."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import street_world
import tiny_models
from cli_world import call, done
from street_world import CLASSES, HEIGHT_PX, PARTS, WIDTH_PX, Street

from deponij.pipeline.backbones import describe
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.segmentation.params import USUAL, DecodersParams
from deponij.project.segmentation.result_files import read_label_maps, read_segmentation
from deponij.services import fit_decoder
from deponij.services.fit_decoder import DecoderRequest
from deponij.store.errors import UsageError
from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import decode_labels
from deponij.store.view import View


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return street_world.make(tmp_path_factory.mktemp("street"))


def asked(street: Street, monkeypatch: pytest.MonkeyPatch, *flags: object) -> DecoderRequest:
    """What the command asks for with these flags."""
    found: list[DecoderRequest] = []

    def keep(request: DecoderRequest, *others: Any, **more: Any) -> None:
        found.append(request)
        raise UsageError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(fit_decoder, "run", keep)
        answer = call("fit-decoder", "--scenes", street.scenes, "--maps", street.maps, *flags)
    assert "enough" in answer.err, answer.err
    return found[0]


def test_what_is_not_named_is_as_in_a_profile(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = asked(street, monkeypatch).parsed()
    method = {"linear": {"decoder": "linear"}}
    assert given == DecodersParams.model_validate({"methods": method, "words": ["learned"]})
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
    assert answer.status == 2 and "give either --texts FILE, --scenes SCENES" in answer.err


# ------------------------------------------------------------------ encoders that see the pictures


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tiny_models.Shelf:
    return tiny_models.Shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tower(models: tiny_models.Shelf) -> str:
    return str(models["timm_resnet"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the test part, under their names."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, part in enumerate(PARTS):
        if part == "test":
            (folder / f"{number}.png").write_bytes(street_world.picture_of(number))
    return folder


def fit(street: Street, tower: str, out: Path, learns: str, *more: object) -> list[object]:
    where = ["fit-decoder", "--scenes", street.scenes, "--encoder", tower, "--learns", learns, "--out", out]
    how = ["--input-px", HEIGHT_PX, WIDTH_PX, "--levels", 3, "--decoder", "fpn", "--set", "width=8"]
    return [*where, *how, "--epochs", 2, "--lr", 0.01, "--device", "cpu", "--threads", 1, *more]


def segmented(pictures: Path, model: Path, out: Path, *more: object) -> dict[str, np.ndarray]:
    """Label maps by item id, as `deponij segment --model` writes them."""
    done("segment", pictures, "--model", model, "--out", out, "--device", "cpu", "--threads", 1, *more)
    return {
        f"{path.stem}.png": decode_labels((out / f"{path.stem}.labels.png").read_bytes(), len(CLASSES), "")
        for path in pictures.iterdir()
    }


@pytest.mark.parametrize("learns", ["all", "last", "none"])
def test_a_whole_network_is_learned_compared_and_used(
    street: Street, tower: str, pictures: Path, tmp_path: Path, learns: str
) -> None:
    """Expected: the answers that were kept when it was judged, from weights that lay in memory then."""
    out, encoder = tmp_path / "ours", tmp_path / "ours.encoder"
    done(*fit(street, tower, out, learns))
    result = read_segmentation(out)
    assert result.method.startswith("fpn-") and (result.windows, result.words) == ("encoded", "learned")
    flags = ["--maps", street.maps, "--depot", street.depot, "--decoder", "fpn", "--set", "width=8"]
    stored = ["fit-decoder", "--scenes", street.scenes, *flags, "--epochs", 1, "--out", tmp_path / "stored"]
    done(*stored)
    (table,) = done("segmentation-table", out, tmp_path / "stored", "--json").json
    assert {row["method"] for row in table["rows"]} == {"fpn", result.method}
    assert done("compare", out, tmp_path / "stored", "--json").json["n_pictures"] == PARTS.count("test")
    assert encoder.is_dir() == (learns != "none")
    # A frozen one stays where it was, which is no name of the catalog here.
    named = ["--backbone-spec", tower] if learns == "none" else []
    kept, found = read_label_maps(out), segmented(pictures, out, tmp_path / "seen", *named)
    assert sorted(found) == sorted(kept.ids)
    assert all(np.array_equal(one, kept.label_map(item_id)) for item_id, one in found.items())


@pytest.mark.parametrize("family", ["open_clip_convnext", "open_clip_vit", "siglip", "timm_vit"])
def test_other_families_are_written_and_used_too(
    street: Street, models: tiny_models.Shelf, pictures: Path, tmp_path: Path, family: str
) -> None:
    """Maps that are projected, and those of patches."""
    out = tmp_path / "ours"
    done(*fit(street, str(models[family]), out, "all", "--levels", 2))
    kept, found = read_label_maps(out), segmented(pictures, out, tmp_path / "seen")
    assert all(np.array_equal(one, kept.label_map(item_id)) for item_id, one in found.items())


def test_scales_and_flips_count_in_figures_as_in_use(
    street: Street, tower: str, pictures: Path, tmp_path: Path
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "ours"
    done(*fit(street, tower, plain, "last"))
    done(*fit(street, tower, out, "last", "--scales", "1,1.5", "--both-ways"))
    told = read_segmentation(out).protocol
    assert told.endswith(
        "answers are means of both ways; answers at scale 1 and 1.5, by windows that are blended"
    )
    assert "scale" not in read_segmentation(plain).protocol
    found = segmented(pictures, out, tmp_path / "seen", "--scales", "1,1.5", "--flip")
    kept, once = read_label_maps(out), read_label_maps(plain)
    assert all(np.array_equal(one, kept.label_map(item_id)) for item_id, one in found.items())
    assert any(not np.array_equal(one, once.label_map(item_id)) for item_id, one in found.items())


def test_words_guide_an_encoder_that_knows_them(
    street: Street, models: tiny_models.Shelf, tower: str, pictures: Path, tmp_path: Path
) -> None:
    clip, words = str(models["open_clip_convnext"]), tmp_path / "words.h5"
    depot = ["--depot", tmp_path / "depot"]
    done("extract-text", "--scenes", street.scenes, "--backbone", clip, "--out", words, *depot)
    done(*fit(street, clip, tmp_path / "ours", "last", "--words", words))
    result = read_segmentation(tmp_path / "ours")
    assert result.words == "names" and result.class_cosines is not None
    kept, found = (
        read_label_maps(tmp_path / "ours"),
        segmented(pictures, tmp_path / "ours", tmp_path / "seen"),
    )
    assert all(np.array_equal(one, kept.label_map(item_id)) for item_id, one in found.items())
    # What learns nothing itself can stand before an encoder that does, but not before a frozen one.
    bilinear = ["--encoder", clip, "--levels", 1, "--decoder", "bilinear", "--words", words, "--epochs", 1]
    start = ["fit-decoder", "--scenes", street.scenes, "--input-px", HEIGHT_PX, WIDTH_PX]
    done(*start, *bilinear, "--learns", "last")
    answer = call(*start, *bilinear, "--learns", "none")
    assert answer.status == 2 and "neither the decoder 'bilinear' nor the encoder learns" in answer.err
    answer = call(*fit(street, tower, tmp_path / "other", "last", "--words", words))
    assert answer.status == 1 and "different models" in answer.err


def test_what_an_encoder_learned_from_lies_with_it(street: Street, tower: str, tmp_path: Path) -> None:
    done(*fit(street, tower, tmp_path / "ours", "last", "--epochs", 1))
    folder = str(tmp_path / "ours.encoder")
    told = describe(folder)
    assert told.input_px == (HEIGHT_PX, WIDTH_PX) and told.weights_sha256 != describe(tower).weights_sha256
    parts = {key_of_bytes(street_world.picture_of(number)): part for number, part in enumerate(PARTS)}
    expected = {key: part for key, part in parts.items() if part != "test"}
    assert learned_from(folder, told.weights_sha256) == expected
    # A backbone like any other, from whose maps the next decoder learns.
    extract = ["extract", "--items", street.scenes / "items", "--backbone", folder, "--kind", "pyramid@3"]
    done(*extract, "--decode", "full", "--depot", tmp_path / "depot", "--out", tmp_path / "maps.h5")
    maps = ["--maps", tmp_path / "maps.h5", "--depot", tmp_path / "depot"]
    done("fit-decoder", "--scenes", street.scenes, *maps, "--epochs", 1)
    answer = call("push", folder, "--repo", "somebody/something")
    assert answer.status == 2 and "learned with a decoder" in answer.err


def test_without_its_encoder_a_decoder_says_what_it_needs(
    street: Street, tower: str, pictures: Path, tmp_path: Path
) -> None:
    done(*fit(street, tower, tmp_path / "ours", "all", "--epochs", 1))
    (tmp_path / "ours.encoder").rename(tmp_path / "elsewhere")
    segment = ["segment", pictures, "--model", tmp_path / "ours", "--out", tmp_path / "seen"]
    answer = call(*segment)
    assert answer.status == 1 and "'ours.encoder'" in answer.err and "--backbone-spec FOLDER" in answer.err
    answer = call(*segment, "--backbone-spec", tower)
    assert answer.status == 1 and "weights" in answer.err
    done(*segment, "--backbone-spec", tmp_path / "elsewhere")


def test_maps_and_encoders_exclude_each_other(street: Street, tower: str) -> None:
    start = ["fit-decoder", "--scenes", street.scenes]
    for flags in (
        [],
        ["--maps", street.maps, "--encoder", tower],
        ["--maps", street.maps, "--learns", "all"],
        ["--maps", street.maps, "--scales", "1,1.5"],
        ["--encoder", tower, "--flipped", street.flipped],
    ):
        answer = call(*start, *flags)
        assert answer.status == 2 and "name either --maps VIEW" in answer.err, flags


def test_rates_are_usual_for_what_learns(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {
        learns: fit_decoder.Seeing(spec, learns).training.get("lr", USUAL["lr"])
        for learns, spec in (("all", "mini-convnext"), ("last", "mini-convnext"), ("none", "mini-convnext"))
    }
    assert seen == {"all": 4e-4, "last": 4e-4, "none": 2e-3}
    assert fit_decoder.Seeing("new:resnet-18@64", "all").training == {}
