"""The cache: what it keeps, what it forgets first, and that it never holds more than it may."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from deponij.project.bounded import BoundedCache


def test_least_recently_used_leaves_first() -> None:
    cache: BoundedCache[int] = BoundedCache(3)
    for n in range(3):
        cache.put(n, n)
    assert cache.get(0) == 0
    cache.put(3, 3)
    assert [cache.get(n) for n in range(4)] == [0, None, 2, 3]


def test_sizes_count_and_what_is_too_large_is_not_kept() -> None:
    cache: BoundedCache[bytes] = BoundedCache(10, len)
    cache.put("a", b"12345")
    cache.put("b", b"12345")
    cache.put("huge", b"x" * 11)
    assert (cache.get("huge"), cache.total, len(cache)) == (None, 10, 2)
    cache.put("a", b"1")
    assert cache.total == 6
    cache.put("c", b"123456")
    assert (cache.get("b"), cache.get("a"), cache.total) == (None, b"1", 7)


def test_an_error_is_not_kept() -> None:
    cache: BoundedCache[int] = BoundedCache(3)

    def fail() -> int:
        raise KeyError

    with pytest.raises(KeyError):
        cache.made("a", fail)
    assert cache.made("a", lambda: 5) == 5
    assert cache.made("a", fail) == 5


def test_threads_do_not_overfill_it() -> None:
    cache: BoundedCache[bytes] = BoundedCache(1000, len)

    def work(n: int) -> None:
        for i in range(300):
            value = cache.made((n * i) % 97, lambda size=1 + (n * i) % 97: b"x" * size)
            assert len(value) >= 1
            assert cache.total <= 1000 + 97

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.total <= 1000
    assert cache.total == sum(len(cache.get(key) or b"") for key in range(97))
