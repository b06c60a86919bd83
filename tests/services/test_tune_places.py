"""`deponij tune` looks at the folders that it will write before it learns anything."""

from pathlib import Path

import cli_world
import pytest
import told_pictures

from deponij.project.tuning import learn


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> told_pictures.Told:
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEPONIJ_DEVICE", "cpu")

    def never(*_: object) -> None:
        raise AssertionError("nothing is read before its places are known to do")

    monkeypatch.setattr(learn, "begin", never)
    return told_pictures.make(tmp_path)


def base(told: told_pictures.Told, out: str = "base") -> Path:
    """A folder that is a backbone, as its description alone asks for."""
    import tiny_models

    tiny_models.siglip(told.root / out)
    return told.root / out


@pytest.mark.parametrize(
    ("more", "told_is"),
    [
        (
            ["--out", "strange"],
            "holds other files (such as 'letter.txt'); name a folder for a tuned backbone",
        ),
        (
            ["--results", "strange"],
            "holds other files (such as 'letter.txt'); name a folder for results alone",
        ),
        (["--out", "base"], "which is read, and would be replaced; name another --out"),
        (["--teacher", "base", "--set", "learns=classes", "--out", "base"], "would be replaced"),
        (["--results", "tuned/answers"], "lie in one another"),
        (["--results", "."], "lie in one another"),
    ],
)
def test_a_place_that_will_not_do_is_told_at_once(
    told: told_pictures.Told, more: list[str], told_is: str
) -> None:
    folder = base(told)
    (told.root / "strange").mkdir()
    (told.root / "strange" / "letter.txt").write_text("dear")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    backbone = "mini-siglip" if "--teacher" in more else folder
    named = [one if one.startswith("--") or "=" in one else told.root / one for one in more]
    answer = cli_world.call(*told.asked(backbone, "tuned"), *named)
    assert answer.status in (1, 2) and told_is in answer.err, answer
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not (told.root / "tuned").exists() and not (told.root / "tuned.unfinished").exists()


def test_an_earlier_writing_is_replaced_but_for_what_its_adapter_is_read_from(
    told: told_pictures.Told,
) -> None:
    adapter = told.root / "tuned" / "adapter"
    base(told, "tuned/adapter")
    answer = cli_world.call(*told.asked(adapter, "tuned"))
    assert answer.status == 2 and "would be replaced" in answer.err
    with pytest.raises(AssertionError, match="nothing is read"):
        cli_world.call(*told.asked("mini-siglip", "tuned"))
