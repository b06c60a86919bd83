"""Names of kinds of feature: what is accepted, what is refused, what they default to."""

import pytest

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
    ],
)
def test_parsed_and_written(text: str, name: KindName, blocks: int, written: str) -> None:
    kind = Kind.parse(text)
    assert kind == Kind(name, blocks)
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
    ],
)
def test_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="embedding, tokens, dense|use tokens@K"):
        Kind.parse(text)


def test_dense_maps_are_small_and_stay_in_the_depot() -> None:
    assert [
        (k, Kind.parse(k).default_dtype, Kind.parse(k).in_view) for k in ("embedding", "tokens@2", "dense")
    ] == [
        ("embedding", "float32", True),
        ("tokens@2", "float32", True),
        ("dense", "float16", False),
    ]
