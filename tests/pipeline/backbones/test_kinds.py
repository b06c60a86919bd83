"""Names of kinds of feature: what is accepted, what is refused, what they default to."""

from dataclasses import replace

import pytest
from depot_world import CLIP

from deponij.pipeline.backbones.kinds import Kind, KindName
from deponij.store.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "blocks", "written"),
    [
        ("embedding", KindName.EMBEDDING, 1, "embedding"),
        ("tokens", KindName.TOKENS, 1, "tokens@1"),
        ("tokens@4", KindName.TOKENS, 4, "tokens@4"),
        ("dense", KindName.DENSE, 1, "dense@1"),
        ("dense@64", KindName.DENSE, 64, "dense@64"),
        ("dense@2+flip", KindName.DENSE, 2, "dense@2+flip"),
        ("pyramid", KindName.PYRAMID, 4, "pyramid@4"),
        ("pyramid@5+flip", KindName.PYRAMID, 5, "pyramid@5+flip"),
    ],
)
def test_parsed_and_written(text: str, name: KindName, blocks: int, written: str) -> None:
    kind = Kind.parse(text)
    assert kind == Kind(name, blocks, flip=text.endswith("+flip"))
    assert str(kind) == written
    assert Kind.parse(written) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Embedding",
        "embeddings",
        "embedding@1",
        "tokens@0",
        "tokens@65",
        "tokens@",
        "tokens@-1",
        "text",
        "dense@1@2",
        "pyramid@4+flop",
        "embedding+flip",
        "tokens@4+flip",
    ],
)
def test_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(
        UsageError, match="embedding, tokens, dense, pyramid|use tokens@K|goes with dense@K and pyramid@K"
    ):
        Kind.parse(text)


def test_dense_maps_are_small_and_stay_in_the_depot() -> None:
    kinds = [Kind.parse(text) for text in ("embedding", "tokens@2", "dense", "pyramid", "pyramid@2+flip")]
    assert [(kind.default_dtype, kind.in_view) for kind in kinds] == [("float32", True)] * 2 + [
        ("float16", False)
    ] * 3
    # The store tells them by the kind's name, too.
    assert [replace(CLIP, kind=str(kind)).is_of_maps for kind in kinds] == [False] * 2 + [True] * 3
