"""The registry that all registries are."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from deponij.pipeline.registry import Registry, names_in, unknown
from deponij.store.errors import UsageError

ROOMS = {
    "deponij.pipeline.heads": "deponij.pipeline.heads.registry",
    "deponij.pipeline.ensembles": "deponij.pipeline.ensembles.registry",
    "deponij.pipeline.retrieval": "deponij.pipeline.retrieval.kind",
    "deponij.pipeline.backbones.families": "deponij.pipeline.backbones.registry",
    "deponij.pipeline.data.adapters": "deponij.pipeline.data.adapters.registry",
    "deponij.pipeline.data.splitting": "deponij.pipeline.data.splitting.strategies",
}


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


def test_a_new_file_in_the_room_is_a_new_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room_of_sorts"
    (room / "deeper").mkdir(parents=True)
    (room / "__init__.py").write_text(
        "from deponij.pipeline.registry import Registry\n"
        "SORTS = Registry('sort', room='room_of_sorts')\nregister = SORTS.register\n"
    )
    (room / "deeper" / "__init__.py").write_text("")
    (room / "deeper" / "one.py").write_text(
        'from room_of_sorts import register\n\n@register("late")\nclass Late: ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert names_in("room_of_sorts") == ("late",)
    assert "room_of_sorts.deeper.one" not in sys.modules
    assert import_module("room_of_sorts").SORTS["late"].__name__ == "Late"


@pytest.mark.parametrize("room", ROOMS)
def test_names_read_from_the_source_are_those_that_are_registered(room: str) -> None:
    registry = import_module(ROOMS[room])
    (found,) = (one for one in vars(registry).values() if isinstance(one, Registry))
    assert names_in(room) == tuple(found.entries())
