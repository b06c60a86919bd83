"""Near-duplicates: against brute-force NumPy over all pairs, and by hand."""

import numpy as np
import pytest

from deponij.pipeline.likeness import pairs as likeness
from deponij.pipeline.likeness.groups import ANY, OTHER_PHOTO, count_alike, group_alike, lowest_cosine
from deponij.pipeline.likeness.pairs import Evidence, Likeness, Thresholds, codes_of
from deponij.pipeline.likeness.phash import hamming
from deponij.store.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a hundred items make several tiles."""
    monkeypatch.setattr(likeness, "TILE", 16)


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def flipped(word: int, *bits: int) -> str:
    for bit in bits:
        word ^= 1 << int(bit)
    return f"{word:016x}"


def made(n: int, seed: int) -> tuple[list[str], list[str | None], np.ndarray]:
    """Items of which a third are copies, crops of copies, or close in features; one in ten has no hash."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8))
    hashes = [f"{int(one):016x}" for one in rng.integers(0, 2**63, n)]
    keys = [f"key{i}" for i in range(n)]
    for row in range(1, n):
        other, kind = int(rng.integers(0, row)), rng.integers(0, 6)
        if kind == 0:
            keys[row], hashes[row], vectors[row] = keys[other], hashes[other], vectors[other]
        elif kind == 1:
            hashes[row] = flipped(
                int(hashes[other], 16), *rng.choice(64, int(rng.integers(1, 9)), replace=False)
            )
        elif kind == 2:
            vectors[row] = vectors[other] + rng.normal(size=8) * rng.uniform(0, 0.3)
    known: list[str | None] = [None if rng.random() < 0.1 else one for one in hashes]
    return keys, known, vectors


def brute(
    keys: list[str], hashes: list[str | None], vectors: np.ndarray, how: Thresholds
) -> dict[str, np.ndarray]:
    """All pairs, one by one, in float64; the diagonal is false."""
    n = len(keys)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = {name: np.zeros((n, n), bool) for name in ("picture", "phash", "embedding")}
    for a in range(n):
        for b in range(n):
            if a != b:
                one, other = hashes[a], hashes[b]
                found["picture"][a, b] = keys[a] == keys[b]
                cosine = units[a] @ units[b]
                if one and other:
                    bits = hamming([one], [other])[0]
                    found["phash"][a, b] = bits <= 4 and cosine >= how.confirm_cosine + 0.025 * bits - 1e-6
                found["embedding"][a, b] = cosine >= how.min_cosine - 1e-6
    found[ANY] = found["picture"] | found["phash"] | found["embedding"]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_those_over_all_pairs(seed: int) -> None:
    keys, hashes, vectors = made(90, seed)
    how = Thresholds(4, 0.97, (-1.0, 0.6, 0.2, 0.0)[seed])
    rng = np.random.default_rng(seed)
    columns = np.stack([np.ones(90), rng.integers(0, 2, 90)], axis=1).astype(np.float32)
    photos = rng.integers(0, 20, 90).astype(np.int32)
    found = count_alike(Likeness(Evidence(keys, hashes, vectors), how=how), columns, photos)
    expected = brute(keys, hashes, vectors, how)
    expected[OTHER_PHOTO] = expected[ANY] & (photos[:, None] != photos)
    assert expected["picture"].any() and expected["phash"].any() and expected["embedding"].any()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask @ columns, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_the_greedy_rule(seed: int) -> None:
    keys, hashes, vectors = made(90, seed)
    how = Thresholds(4, 0.97, (-1.0, 0.6, 0.2, 0.0)[seed])
    alike = brute(keys, hashes, vectors, how)[ANY]
    order = np.random.default_rng(seed + 10).permutation(90)
    # The rule of the module's first lines, an item at a time.
    home = np.full(90, -1)
    for row in order:
        if home[row] < 0:
            home[(alike[row] & (home < 0))] = row
            home[row] = row
    found = group_alike(Likeness(Evidence(keys, hashes, vectors), how=how), order)
    expected = {int(first): set(np.flatnonzero(home == first).tolist()) for first in np.unique(home)}
    assert {one.first: set(one.rows) for one in found} == {
        first: rows for first, rows in expected.items() if len(rows) > 1
    }
    assert [one.first for one in found] == [row for row in order if len(expected.get(row, ())) > 1]
    # What is promised of them: no two that are kept are alike, and all of a group are alike with its first.
    kept = np.unique(home)
    assert not alike[np.ix_(kept, kept)].any()
    for one in found:
        assert one.rows[0] == one.first
        assert alike[one.first][list(one.rows[1:])].all()


def test_a_chain_does_not_become_one_group() -> None:
    # Steps of 10 degrees, of which 12 count as alike: all are connected, the ends are at right angles.
    vectors = at_angles(*range(0, 100, 10))
    found = Likeness(
        Evidence([str(i) for i in range(10)], None, vectors), how=Thresholds(4, np.cos(np.radians(12)))
    )
    formed = group_alike(found, np.arange(10))
    assert [one.rows for one in formed] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert lowest_cosine(found, formed[0]) == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_lowest_cosine_is_that_of_the_outermost_two() -> None:
    vectors = at_angles(10, 0, 20, *([10] * 40))
    found = Likeness(
        Evidence([str(i) for i in range(43)], None, vectors), how=Thresholds(4, np.cos(np.radians(12)))
    )
    (group,) = group_alike(found, np.arange(43))
    assert lowest_cosine(found, group) == pytest.approx(np.cos(np.radians(20)), abs=1e-6)


def test_many_equal_pictures_are_one_group_at_little_cost() -> None:
    n = 3000
    evidence = Evidence(["same"] * n, ["0f" * 8] * n, np.ones((n, 4), np.float32))
    found = Likeness(evidence)
    counts = count_alike(found, np.ones((n, 1), np.float32), np.zeros(n, np.int32))
    assert (counts[ANY] == n - 1).all() and (counts[OTHER_PHOTO] == 0).all()
    (group,) = group_alike(found, np.arange(n))
    assert group.rows == tuple(range(n))


def test_links_say_what_speaks_for_them() -> None:
    keys = ["a", "a", "b", "c", "d"]
    hashes = [flipped(0), flipped(0), flipped(0, 1, 2, 3), flipped(0, *range(9)), None]
    evidence = Evidence(keys, hashes, at_angles(0, 0, 40, 5, 90))
    # The cosine of 40 degrees is 0.77; three bits ask for 0.725.
    links = Likeness(evidence, how=Thresholds(4, 0.98)).links(0, np.arange(1, 5))
    assert [one.how for one in links] == [("picture", "phash", "embedding"), ("phash",), ("embedding",), ()]
    assert [one.bits for one in links] == [0, 3, 9, None]
    expected = np.cos(np.radians([0, 40, 5, 90]))
    assert [one.cosine for one in links] == pytest.approx(expected, abs=1e-6)


def test_evidence_may_be_lacking() -> None:
    only_keys = Likeness(Evidence(["a", "b", "a"]))
    assert [one.rows for one in group_alike(only_keys, np.arange(3))] == [(0, 2)]
    assert only_keys.links(0, np.array([2])) == [(("picture",), None, None)]
    no_hash = Likeness(Evidence(["a", "b"], [None, None], at_angles(0, 90)))
    assert no_hash.bits(slice(0, 2), slice(0, 2)) is None
    one_sided = Likeness(Evidence(["a"], ["0" * 16]), Evidence(["a"], [None]))
    assert one_sided.links(0, np.array([0]))[0].how == ("picture",)


def test_lengths_do_not_matter_and_zero_vectors_are_like_nothing() -> None:
    vectors = np.array([[1e-20, 0], [1e20, 0], [0, 0], [0, 0]])
    counts = count_alike(
        Likeness(Evidence(list("abcd"), None, vectors)),
        np.ones((4, 1), np.float32),
        np.arange(4, dtype=np.int32),
    )
    assert counts["embedding"][:, 0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("bits", "needed"), [(0, 0.65), (4, 0.75), (10, 0.9)])
def test_what_hashes_propose_the_cosine_confirms(bits: int, needed: float) -> None:
    hashes = [flipped(0), flipped(0, *range(bits))]
    for cosine, is_alike in ((needed + 0.002, True), (needed - 0.002, False)):
        vectors = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
        link = Likeness(Evidence(["a", "b"], hashes, vectors)).links(0, np.array([1]))[0]
        assert link.how == (("phash",) if is_alike else ())
        # The other way round it is the same, and -1 confirms everything.
        assert (
            Likeness(Evidence(["b", "a"], hashes[::-1], vectors[::-1])).links(0, np.array([1]))[0].how
            == link.how
        )
        free = Thresholds(confirm_cosine=-1)
        assert Likeness(Evidence(["a", "b"], hashes, -vectors), how=free).links(0, np.array([1]))[0].how == (
            "phash",
        )


def test_without_features_hashes_must_be_nearer() -> None:
    hashes = [flipped(0), flipped(0, 1, 2, 3, 4), flipped(0, 1, 2, 3, 4, 5)]
    found = Likeness(Evidence(list("abc"), hashes))
    assert [one.how for one in found.links(0, np.array([1, 2]))] == [("phash",), ()]
    told = Likeness(Evidence(list("abc"), hashes), how=Thresholds(5))
    assert [one.how for one in told.links(0, np.array([1, 2]))] == [("phash",), ("phash",)]
    # Eleven bits are too many even for equal features.
    far = Evidence(["a", "b"], [flipped(0), flipped(0, *range(11))], at_angles(0, 15))
    assert Likeness(far).links(0, np.array([1]))[0].how == ()


def test_thresholds_in_words() -> None:
    assert Thresholds().words(True, True) == (
        "hashes up to 10 of 64 bits apart with a cosine from 0.65 and 0.025 for each bit, or a cosine from 0.97"
    )
    assert Thresholds().words(True, False) == "hashes up to 4 of 64 bits apart"
    assert Thresholds().words(False, True) == "a cosine from 0.97"


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\(0, 1\].*0\.\.64"):
        Thresholds(4, 0.0)
    with pytest.raises(UsageError, match="bits"):
        Thresholds(65, 0.9)
    with pytest.raises(UsageError, match="confirm"):
        Thresholds(confirm_cosine=1.1)
    with pytest.raises(UsageError, match="one length"):
        Evidence(["a"], ["0" * 16, "0" * 16])
    with pytest.raises(DataError, match="16 hexadecimal"):
        Evidence(["a"], ["xyz"])
    with pytest.raises(DataError, match="NaN"):
        Evidence(["a"], None, np.array([[np.nan, 1.0]]))


def test_codes_are_shared_by_equal_names_only() -> None:
    codes = codes_of(["a", None, "b", "a", None])
    assert codes[0] == codes[3] and len(set(codes.tolist())) == 4
