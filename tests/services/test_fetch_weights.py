"""`deponij weights fetch`: what is said before anything is fetched, and what stands in the way."""

from pathlib import Path

import fake_backbone
import pytest

from deponij.project.extraction import weight_sizes
from deponij.services import fetch_weights
from deponij.store.errors import BackboneError, UsageError


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_preset_is_told_with_sizes_and_room_before_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    fetched: list[str] = []

    def fetch(entry: fetch_weights.Entry) -> Path:
        assert said, "sizes are told first"
        fetched.append(entry.name)
        return tmp_path / entry.name

    monkeypatch.setattr(fetch_weights, "fetch_entry", fetch)
    monkeypatch.setattr(weight_sizes, "free_bytes", lambda folder: 5_000_000_000)
    found = fetch_weights.fetch_all(["dinov2-small", "dinov2-base"], "good", said.append)
    # Each once, though it is named twice.
    assert fetched == ["dinov2-small", "dinov2-base", "siglip-base-16"] == list(found)
    # 22,056,576 and 86,580,480 and 203,155,970 numbers of four bytes, by the catalog.
    assert said == [
        "to be fetched:\n"
        "  dinov2-small: about 88 MB, Apache-2.0\n"
        "  dinov2-base: about 346 MB, Apache-2.0\n"
        "  siglip-base-16: about 813 MB, Apache-2.0\n"
        f"  together about 1.2 GB; 5.0 GB are free at {tmp_path / 'hub'}"
    ]


def test_a_disk_that_is_too_full_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_weights, "fetch_entry", lambda entry: pytest.fail("nothing may be fetched"))
    monkeypatch.setattr(weight_sizes, "free_bytes", lambda folder: 1_000_000_000)
    with pytest.raises(
        BackboneError,
        match=r"dinov2-base, siglip-base-16 take about 1\.2 GB, and 1\.0 GB are free at .*HF_HUB_CACHE",
    ):
        fetch_weights.fetch_all([], "good")


def test_without_a_network_the_rest_is_named_too() -> None:
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set") as caught:
        fetch_weights.fetch_all([], "best")
    assert "models--facebook--dinov2-large" in str(caught.value)
    assert "After it there are still to be fetched: openclip-vit-l-14" in str(caught.value)


def test_what_is_here_is_not_announced(tmp_path: Path) -> None:
    said: list[str] = []
    with fake_backbone.registered():
        folder = fake_backbone.make(tmp_path / "model")
        assert fetch_weights.fetch_all([str(folder)], None, said.append) == {str(folder): folder}
    assert said == []


def test_nothing_named_and_unknown_names() -> None:
    with pytest.raises(UsageError, match="name backbones .* or --preset NAME"):
        fetch_weights.fetch_all([])
    with pytest.raises(UsageError, match="Did you mean 'dinov2-base'"):
        fetch_weights.fetch_all(["dinov2-bse"])
