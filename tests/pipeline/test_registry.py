"""The registry that all registries are."""

from collections.abc import Callable

import pytest

from pipeline.registry import Registry, unknown
from store.errors import UsageError


def made() -> Registry[Callable[[], int]]:
    registry: Registry[Callable[[], int]] = Registry("way", attribute="way")

    @registry.register("two")
    def two() -> int:
        return 2

    @registry.register("one")
    def one() -> int:
        return 1

    return registry


def test_entries_come_by_sorted_name_and_know_theirs() -> None:
    registry = made()
    assert list(registry.entries()) == ["one", "two"]
    assert registry["two"]() == 2 and registry["two"].way == "two"


def test_a_name_is_given_once_but_the_same_entry_may_come_twice() -> None:
    registry = made()
    one = registry["one"]
    assert registry.register("one")(one) is one
    with pytest.raises(ValueError, match=r"way 'one' is taken by .*one"):
        registry.register("one")(lambda: 3)
    assert registry["one"] is one
    registry.unregister("one")
    assert list(registry.entries()) == ["two"]


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"^unknown way 'tow'\. Did you mean 'two'\? Known: one, two$"):
        made()["tow"]
    with pytest.raises(UsageError, match=r"^unknown way 'zzz'\. Known: one, two$"):
        made()["zzz"]


def test_long_lists_are_cut() -> None:
    names = [f"name{i:03}" for i in range(80)]
    message = str(unknown("way", "x", names))
    assert message.endswith("name049, ...") and "name050" not in message


def test_what_fills_it_runs_before_anything_is_looked_up() -> None:
    registry: Registry[type] = Registry("sort", fill=lambda: registry.register("late")(int) and None)
    assert registry["late"] is int
