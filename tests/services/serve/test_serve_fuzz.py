"""The API under schemathesis, from its own OpenAPI document: no 5xx, and every answer is as the document says."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import serve_world
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        serve_world.made(tmp_path_factory.mktemp("fuzz")) as world,
        serve_world.listening(world.wanted()) as found,
    ):
        yield found


def fuzz(address: str, n: int) -> None:
    """n requests to each operation, half of them as documented and half of them not."""
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    names = []
    for found in document.get_all_operations():
        operation = found.ok()
        names.append(f"{operation.method} {operation.path}")
        # What takes nothing cannot be asked wrongly.
        takes_something = bool(list(operation.iter_parameters()) or list(operation.body))
        for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:

            @settings(
                max_examples=n,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, timeout=30)

            ask()
    assert {"post /api/search", "post /api/picture", "get /api/item", "get /metrics"} <= set(names)


def test_a_few_requests(address: str) -> None:
    fuzz(address, 10)


@pytest.mark.slow
def test_many_requests(address: str) -> None:
    fuzz(address, 150)
