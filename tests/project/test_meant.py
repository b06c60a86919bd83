"""Which run a command means where its files are not named: the last that finished, the one of --run, the profile's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deponij.project import last_run
from deponij.project.frame.layout import Layout
from deponij.project.in_force import InForce
from deponij.project.last_run import record_of, remember
from deponij.project.meant import ago, inputs_meant, is_meant, run_meant
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError, UsageError
from deponij.store.index_folder import CARD
from deponij.store.sealed import sealed


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a pointer of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(last_run, "POINTER", Path(".deponij/last-run.json"))
    return tmp_path


def made(name: str, *, backbones: tuple[str, ...] = ("a",), words: tuple[str, ...] = ()) -> Layout:
    """A run's folder that has finished."""
    at = Layout(Path("runs") / name)
    at.items.mkdir(parents=True)
    facts = InForce(
        profile=name, backbones={one: {} for one in backbones}, text_backbones=words, labels=("label",)
    )
    remember(at, facts, by="deponij run", depot="depot")
    return at


def in_force(name: str) -> None:
    Path("params.yaml").write_text(f"profile: {name}\nbackbones: {{b: {{}}}}\n")


def test_an_empty_folder_says_how_a_run_is_made() -> None:
    with pytest.raises(
        UsageError, match="no run has finished in this folder.*`deponij run --folder PICTURES`"
    ):
        run_meant()


def test_the_last_one_that_finished_is_meant_and_said() -> None:
    made("one")
    at = made("two")
    meant = run_meant()
    assert meant.at.root == at.root
    assert meant.backbones == ["a"] and meant.labels == "label"
    assert meant.said("results") == "of runs/two, finished just now: results"
    assert is_meant(at) and not is_meant(Layout(Path("runs/one")))


def test_a_run_that_is_named_comes_before_the_last_one() -> None:
    made("one")
    made("two")
    assert run_meant(Path("runs/one")).at.root == Path("runs/one")
    with pytest.raises(UsageError, match=r"runs/three is no folder of a run.*there are: runs/one, runs/two"):
        run_meant(Path("runs/three"))


def test_the_profile_in_force_counts_where_nothing_has_finished() -> None:
    in_force("mine")
    with pytest.raises(
        StoreError, match="runs/mine, the run of the profile in force, was not made yet; make it: `dvc repro`"
    ):
        run_meant()
    Layout(Path("runs/mine")).items.mkdir(parents=True)
    assert run_meant().said("results") == "of runs/mine, the profile in force: results"
    made("other")
    assert run_meant().at.root == Path("runs/other")


def test_parameters_are_those_in_force_where_the_run_is_the_profiles() -> None:
    made("mine")
    in_force("mine")
    assert run_meant().backbones == ["b"]


def test_a_pointer_to_a_run_that_is_gone() -> None:
    made("one")
    made("two").items.rmdir()
    with pytest.raises(
        StoreError, match=r"runs/two, is gone or was moved.*--run FOLDER \(there are: runs/one\)"
    ):
        run_meant()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is damaged or was edited"),
        (json.dumps({"format": 1, "run": "runs/one"}).encode(), "has no 'checksum'"),
        (sealed({"format": 2, "run": "runs/one"}), "is of another version"),
        (sealed({"format": 1, "runs": []}), "is of another version"),
    ],
)
def test_a_damaged_pointer_or_record_is_told_with_what_to_do(content: bytes, told: str) -> None:
    at = made("one")
    last_run.POINTER.write_bytes(content)
    with pytest.raises(StoreError, match=rf"last-run\.json {told}.*--run FOLDER"):
        run_meant()
    assert run_meant(at.root).at.root == at.root
    at.record.write_bytes(content)
    with pytest.raises(StoreError, match=rf"run\.json {told}.*run again into runs/one"):
        run_meant(at.root)


def test_a_record_goes_with_its_folder(here: Path) -> None:
    """Paths in it are relative to the folder that the run lies in, wherever that was moved."""
    at = made("one")
    record = record_of(at)
    assert record is not None and record.path(at, "pictures") == Path("pictures")
    (here / "elsewhere").mkdir()
    Path("runs").rename(here / "elsewhere" / "runs")
    moved = Layout(here / "elsewhere" / "runs" / "one")
    assert record.path(moved, "pictures") == here / "elsewhere" / "pictures"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "just now"), (59, "just now"), (61, "1 minute ago"), (7200, "2 hours ago"), (90_000, "1 day ago")],
)
def test_how_long_ago(seconds: int, told: str) -> None:
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == told


def test_a_record_of_a_run_that_was_named_absolutely_keeps_its_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the run lies then says nothing of where its pictures do: they are relative to where the command ran."""
    at = Layout(here / "elsewhere" / "one")
    remember(at, InForce(profile="one", backbones={"a": {}}), by="deponij run", depot="depot")
    record = record_of(at)
    (here / "third").mkdir()
    monkeypatch.chdir(here / "third")
    assert record is not None and record.path(at, "pictures") == here / "pictures"


def test_toys_are_asked_last_and_words_only_where_they_are_known() -> None:
    at = made("one", backbones=("toy", "mute", "words"), words=("words",))
    write_bytes(at.weights / "toy.json", sealed({"toy": True}))
    assert run_meant().backbones == ["mute", "words", "toy"]
    for name in ("toy", "mute", "words"):
        write_bytes(at.index(name) / CARD, b"{}")
    assert run_meant().index() == at.index("mute")
    assert run_meant().index(for_words=True) == at.index("words")
    assert run_meant().indexes() == [at.index(name) for name in ("mute", "words", "toy")]
    (at.index("words") / CARD).unlink()
    with pytest.raises(UsageError, match="no backbone with a text tower"):
        run_meant().index(for_words=True)


def test_heads_that_read_maps_mean_the_stored_patch_tokens() -> None:
    at = made("one", backbones=("mute", "tokens"))
    write_bytes(at.split("random"), b"")
    with pytest.raises(UsageError, match="no stored patch tokens.*`patch_tokens` in its profile"):
        inputs_meant([], None, at.split("random"), None, for_maps=True)
    write_bytes(at.maps("tokens"), b"")
    found = inputs_meant([], None, at.split("random"), None, for_maps=True)
    assert found.features == (at.maps("tokens"),)
    assert found.said is not None and "features of tokens, split random" in found.said


def test_a_view_means_the_run_that_it_is_part_of() -> None:
    one = made("one")
    made("two")
    found = inputs_meant([one.view("a")], None, Path("named.parquet"), None)
    assert found.items.resolve() == one.items.resolve()
    assert (found.labels, found.split, found.texts) == ("label", Path("named.parquet"), None)
    assert found.said is not None and "runs/one" in found.said
    assert inputs_meant([one.view("a")], None, Path("s"), None, of_run=Path("runs/two")).items == Path(
        "runs/two/items"
    )
    with pytest.raises(UsageError, match="is no part of a run, so name all of"):
        inputs_meant([Path("alone.h5")], None, None, None)
