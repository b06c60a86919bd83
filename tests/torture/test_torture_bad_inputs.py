"""Every input of the corpus meets its command: what was expected comes of it, in words, and never a traceback."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_inputs import CASES, PARAMS, SOME_FAILED
from cli_world import call
from ledger import Ledger, Row
from under_dvc import under_dvc

from deponij.stages import split
from deponij.store.errors import UsageError
from deponij.store.items import Items

SECTION = "Bad inputs"


@pytest.fixture(scope="module")
def rows(ledger: Ledger) -> Iterator[dict[str, Row]]:
    """A row of the ledger for each kind of input."""
    kinds = dict.fromkeys(name.partition(" ")[0] for name in [*CASES, "params"])
    yield {kind: ledger.row(SECTION, kind) for kind in kinds}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: dict[str, Row]
) -> None:
    case = CASES[name]
    case.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    answer = call(*case.argv)
    said = answer.err + answer.out
    if answer.status == SOME_FAILED:
        said += " ".join(
            f"{one}" for one in Items(tmp_path / "items").table(["failure"])["failure"].to_pylist() if one
        )
    is_right = (
        answer.status == case.status and re.search(case.words, said) is not None and "Traceback" not in said
    )
    rows[name.split(maxsplit=1)[0]].add(
        "wrong" if not is_right else "detected" if answer.status else "harmless"
    )
    assert answer.status == case.status, said
    assert re.search(case.words, said), said
    assert "Traceback" not in said and "\x1b[31m" not in said
    if answer.status in (1, 2):
        assert "error: " in said or "damaged" in said
        assert set(tmp_path.rglob("*")) == before, "what is refused leaves nothing"
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", PARAMS)
def test_bad_params(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: dict[str, Row]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(PARAMS[name])
    rows["params"].add("wrong")
    with pytest.raises(UsageError) as refused:
        under_dvc(split)
    assert len(str(refused.value)) > 20 and len(str(refused.value)) < 20_000
    assert [one.name for one in tmp_path.iterdir()] == ["params.yaml"]
    rows["params"].counts["wrong"] -= 1
    rows["params"].add("detected")


def test_there_are_a_hundred() -> None:
    assert len(CASES) + len(PARAMS) >= 190
