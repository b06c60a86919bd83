"""Presets: what they name, in which order, and what is said of a name that is none."""

import pytest

from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.backbones.presets import AT_HAND, OFFERED, preset, preset_of, presets
from deponij.pipeline.backbones.registry import families
from deponij.store.errors import UsageError


def test_there_are_four_and_each_costs_more_than_the_one_before() -> None:
    assert list(presets()) == ["at-hand", "fast", "good", "best"]
    assert {AT_HAND, OFFERED} <= set(presets())
    work = [sum(entry.gflops or 0 for entry in one.entries) for one in presets().values()]
    sizes = [sum(entry.weights_bytes or 0 for entry in one.entries) for one in presets().values()]
    assert work == sorted(work) and sizes == sorted(sizes)


def test_each_knows_pictures_and_words_and_those_that_are_fetched_are_no_toys() -> None:
    for one in presets().values():
        assert set(one.backbones) <= set(entries())
        assert all(entry.family in families() and entry.licence for entry in one.entries)
        words = [entry.name for entry in one.entries if entry.has_text or entry.package_folder]
        assert words, f"{one.name} has nothing for words"
        assert one.name == AT_HAND or not any(entry.toy for entry in one.entries)


def test_what_is_at_hand_needs_no_network() -> None:
    assert all(entry.repo is None for entry in preset(AT_HAND).entries)


def test_a_backbone_knows_its_preset_and_a_name_that_is_none_gets_the_nearest() -> None:
    assert (preset_of("dinov2-base"), preset_of("timm-resnet50")) == ("good", None)
    assert preset("best").licences == ("Apache-2.0", "MIT")
    with pytest.raises(
        UsageError, match=r"unknown preset 'goods'\. Did you mean 'good'\? Known: at-hand, fast"
    ):
        preset("goods")
