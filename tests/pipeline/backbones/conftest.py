"""Tiny models of every family and pictures of awkward shapes, made once a session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_models
import torch
from PIL import Image

from deponij.pipeline.backbones import Backbone, load


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small matrices on shared cores: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tiny_models.Shelf:
    return tiny_models.Shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def pictures() -> dict[str, Image.Image]:
    return tiny_models.pictures()


@pytest.fixture(scope="session")
def loaded(
    shelf: tiny_models.Shelf, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Backbone]]:
    """Loads a tiny model by its maker's name, once a session."""
    known: dict[str, Backbone] = {}
    cache: Path = tmp_path_factory.mktemp("session_cache")

    def get(name: str) -> Backbone:
        if name not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DEPONIJ_CACHE", str(cache))
                known[name] = load(str(shelf[name]))
        return known[name]

    yield get
    known.clear()
