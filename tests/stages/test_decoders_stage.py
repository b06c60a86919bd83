"""Scenes, stored maps and words in, decoders and their figures out. Expected cosines are those of the words by hand."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import street_world
from depot_world import CLIP, keys_of
from street_world import CLASSES, N_CHANNELS

from deponij.pipeline.decoders.saved import load_decoder
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.segmentation.result_files import metrics_of, read_segmentation
from deponij.stages import decoders as stage
from deponij.store.identity import Identity
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_empty_view, write_view

MUTE = "c" * 64
# Channels of the street's maps are the classes' shares, then noise: words in the directions of their own class, of which
# a description is less sure.
NAMES = np.eye(3, N_CHANNELS, dtype=np.float32)
DESCRIPTIONS = 2 * NAMES + np.float32(0.5)


def write_words(path: Path, of: Identity, vectors: dict[str, np.ndarray]) -> None:
    """Words of all classes: what they are called like -> [C, d]."""
    texts = [(name, one.name) for name in vectors for one in CLASSES]
    rows, groups = np.concatenate(list(vectors.values())), [group for _, group in texts]
    identity = Identity(of.backbone, of.weights, "text", "tokenizer:x", "", "fp32", "float32")
    write_view(
        path,
        identity=identity,
        backbone="tiny",
        ids=[f"{template} {group}" for template, group in texts],
        keys=keys_of(range(len(texts))),
        checksums=row_checksums({"text": rows}, len(rows)),
        arrays={"text": rows},
        columns={
            "template": [template for template, _ in texts],
            "group": groups,
            "text": groups,
        },
    )


@dataclass(frozen=True)
class Ran:
    """The stage's outputs: where, METHOD/BACKBONE/WORDS -> result, and what it said."""

    at: Layout
    results: dict[str, SegmentationResult]
    said: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Of a backbone that knows words, with mirrored maps, and of one that knows none, without."""
    at = Layout(tmp_path_factory.mktemp("run"))
    depot, said = at.root / "depot", list[str]()
    street_world.write_street(at.scenes, range(20))
    for name, weights in (("tiny", CLIP.weights), ("mute", "c" * 64)):
        street_world.write_maps(at.dense(name), depot, at.scenes, name, weights=weights)
    street_world.write_maps(at.dense_flip("tiny"), depot, at.scenes, kind="pyramid@3+flip")
    write_words(at.dense_words("tiny"), CLIP, {"names": NAMES, "descriptions": DESCRIPTIONS})
    plain = View(at.dense("mute")).identity
    write_empty_view(at.dense_flip("mute"), identity=plain.mirrored(), backbone="mute")
    write_empty_view(at.dense_words("mute"), identity=plain, backbone="mute")
    decoders = {
        "methods": {"bilinear": {}, "fpn": {"arguments": {"width": 8}}},
        "words": ["names", "descriptions"],
        "training": {"epochs": 20, "batch_size": 4, "lr": 0.02},
    }
    params = stage.Params.model_validate({"dense": {"tiny": {}, "mute": {}}, "decoders": decoders})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "say", said.append)
        stage.main(params, at, RunOptions(depot=str(depot), device="cpu", threads=1))
    folders = {path.relative_to(at.segmentation).as_posix(): path for path in at.segmentations()}
    return Ran(at, {name: read_segmentation(path) for name, path in folders.items()}, "\n".join(said))


def test_every_method_on_every_backbone_with_every_sort_of_words(ran: Ran) -> None:
    tiny = [f"{method}/tiny/{words}" for method in ("bilinear", "fpn") for words in ("names", "descriptions")]
    assert sorted(ran.results) == sorted([*tiny, "fpn/mute/learned"])
    assert "mute knows no words, which bilinear cannot do without: passed over" in ran.said
    metrics = json.loads(ran.at.metrics("decoders").read_text())
    for name, result in ran.results.items():
        method, backbone, words = name.split("/")
        assert (result.method, result.backbone, result.words) == (method, backbone, words)
        assert metrics[method][backbone][words] == metrics_of(result)
        assert f"{method} {backbone} {words}: test mIoU" in ran.said
        # DVC's outputs hold nothing of a machine.
        assert result.seconds is None and set(result.parts) == {"train", "val", "test"}
        assert ("half of them mirrored" in result.protocol) == name.startswith("fpn/tiny")
    assert not [path for path in ran.at.unfinished.rglob("*") if path.is_file()]


@pytest.mark.parametrize("words", ["names", "descriptions"])
def test_words_have_their_say(ran: Ran, words: str) -> None:
    vectors = NAMES if words == "names" else DESCRIPTIONS
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for method in ("bilinear", "fpn"):
        found = ran.results[f"{method}/tiny/{words}"].class_cosines
        np.testing.assert_allclose(found, unit @ unit.T, atol=1e-4)
        card, _ = load_decoder(ran.at.segmented(method, "tiny", words))
        assert card.words_dim == N_CHANNELS
    bilinear, fpn = (ran.results[f"{method}/tiny/{words}"].parts["test"] for method in ("bilinear", "fpn"))
    # The last map has cells of 32 px, which are right away from borders; the decoder sees those of 8 px too.
    assert fpn.miou > bilinear.miou > 1.5 * bilinear.majority_miou


def test_without_words_class_vectors_are_learned(ran: Ran) -> None:
    assert ran.results["fpn/mute/learned"].class_cosines is None
    card, _ = load_decoder(ran.at.segmented("fpn", "mute", "learned"))
    assert card.words_dim is None
