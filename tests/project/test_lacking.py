"""A section without entries: what a stage says of it, and what it leaves for DVC."""

import json
from pathlib import Path

import pytest
from pydantic import Field

from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import NeededClasses, NeededLabels, lack_of, leave_empty, needs_of
from deponij.project.frame.settings import Section


class Params(Section):
    """Two sections, one of which has a default."""

    labels: NeededLabels
    classes: NeededClasses = Field(default_factory=list)


class Free(Section):
    """Reads labels, and goes on without."""

    labels: list[str]


def test_what_is_marked_is_what_is_needed() -> None:
    assert set(needs_of(Params)) == {"labels", "classes"}
    assert needs_of(Free) == {}
    assert lack_of(Free(labels=[])) == ""
    assert lack_of(Params(labels=["a"], classes=["b"])) == ""
    assert lack_of(Params(labels=["a"])) == "no classes are named (`classes: []`)"
    assert "(`labels: []`); no classes" in lack_of(Params(labels=[]))


def test_outputs_are_left_empty(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    leave_empty([tmp_path / "old", tmp_path / "new" / "one", tmp_path / "metrics" / "a.json"])
    assert list((tmp_path / "old").iterdir()) == list((tmp_path / "new" / "one").iterdir()) == []
    assert json.loads((tmp_path / "metrics" / "a.json").read_text()) == {}


def test_a_stage_says_that_it_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stage"])
    called: list[object] = []
    for labels, expected in (("[]", []), ("[a]", [["a"]])):
        (tmp_path / "params.yaml").write_text(f"profile: p\nlabels: {labels}\nclasses: [x, y]\n")
        run_stage(
            "heads", Params, lambda params, *_: called.append(params.labels), outs=lambda at: [at.tables]
        )
        assert called == expected
    assert (tmp_path / "runs" / "p" / "tables").is_dir()
    told = capsys.readouterr().err
    assert told == "heads: nothing to do, since no column of labels is named (`labels: []`)\n"
