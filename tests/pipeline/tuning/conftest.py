"""Tiny models of all families, made once, and pictures for them."""

import pytest
import tiny_models


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tiny_models.Shelf:
    return tiny_models.Shelf(tmp_path_factory.mktemp("models"))
