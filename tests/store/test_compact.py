"""Texts in little memory do as lists, dicts and sets do."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deponij.store import compact
from deponij.store.compact import Distinct, Places, Seen, Texts

TEXTS = ["b", "a", "", "ä", "x" * 100, "b2"]


def column(texts: list[str | None], n_chunk: int = 4) -> Texts:
    chunks = [texts[start : start + n_chunk] for start in range(0, len(texts), n_chunk)]
    return Texts(pa.chunked_array([pa.array(one, pa.string()) for one in chunks], pa.string()))


def test_a_column_reads_like_a_list() -> None:
    for texts in ([], TEXTS, [*TEXTS, None, "z"]):
        found = column(list(texts))
        assert found == texts
        assert list(found) == texts
        assert len(found) == len(texts)
        assert [found[place] for place in range(-len(texts), len(texts))] == [*texts, *texts]
        assert found[1:5:2] == texts[1:5:2]
        assert found != [*texts, "one more"]
        assert set(found) == set(texts)
        assert np.array(found, dtype=object).tolist() == list(texts)
    with pytest.raises(IndexError, match="row 6 of 6"):
        column(list(TEXTS))[6]
    assert "a" in column(list(TEXTS))
    assert repr(column(["a", "b", "c", "d"])) == "<4 texts: 'a', 'b', 'c', …>"


def test_places_are_those_of_a_dict() -> None:
    places = Places(column(list(TEXTS)))
    assert dict(places) == {text: row for row, text in enumerate(TEXTS)}
    assert "b3" not in places
    assert places.get("b3") is None
    with pytest.raises(KeyError):
        places["b3"]


def test_texts_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "hash", lambda text: 7, raising=False)
    places = Places(column(list(TEXTS)))
    assert [places[one] for one in TEXTS] == list(range(len(TEXTS)))
    assert "other" not in places
    seen = Seen()
    assert [seen.add(one) for one in [*TEXTS, *TEXTS]] == [True] * len(TEXTS) + [False] * len(TEXTS)


@given(st.lists(st.integers(0, 40).map(str)), st.integers(1, 9))
def test_seen_and_distinct_are_those_of_a_set(texts: list[str], n_pending: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "_PENDING", n_pending)
        seen, distinct, expected = Seen(), Distinct(), set[str]()
        for one in texts:
            assert seen.add(one) == (one not in expected)
            expected.add(one)
            distinct.add(one)
        assert len(distinct) == len(expected)
