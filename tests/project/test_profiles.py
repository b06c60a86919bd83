"""Putting a profile into force without losing anybody's edits."""

from pathlib import Path

import pytest

from deponij.project.frame import profiles
from deponij.store.errors import UsageError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles").mkdir()
    for name in ("one", "two"):
        text = f"profile: {name}\ndata: {{root: data/{name}}}\nbackbones: {{a: {{}}, b: {{}}}}\n"
        (tmp_path / "profiles" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_use_and_list(checkout: Path) -> None:
    assert [row["in_force"] for row in profiles.known()] == [False, False]
    assert "profile two is in force" in profiles.use("two")
    assert (checkout / "params.yaml").read_bytes() == (checkout / "profiles/two.yaml").read_bytes()
    assert profiles.known() == [
        {"name": "one", "in_force": False, "data": "data/one", "backbones": ["a", "b"]},
        {"name": "two", "in_force": True, "data": "data/two", "backbones": ["a", "b"]},
    ]
    profiles.use("one")


def test_edits_are_kept_unless_forced(checkout: Path) -> None:
    profiles.use("one")
    params = checkout / "params.yaml"
    params.write_text(params.read_text() + "# mine\n")
    with pytest.raises(UsageError, match="edits that no profile has"):
        profiles.use("two")
    assert "# mine" in params.read_text()
    (checkout / "profiles" / "mine.yaml").write_bytes(params.read_bytes())
    profiles.use("two")
    params.write_text("x: 1\n")
    profiles.use("two", force=True)
    assert params.read_bytes() == (checkout / "profiles" / "two.yaml").read_bytes()


def test_refusals(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no profile 'three'; there are: one, two"):
        profiles.use("three")
    (checkout / "profiles" / "bad.yaml").write_text("profile: bad\nbackbnes: {}\n")
    with pytest.raises(UsageError, match="unknown sections: backbnes"):
        profiles.use("bad")
    with pytest.raises(UsageError, match="no profile '../one'"):
        (checkout / "profiles" / "deep").mkdir()
        monkeypatch.chdir(checkout / "profiles" / "deep")
        profiles.use("../one")
    assert not (checkout / "params.yaml").exists()
