"""Pictures that items only name: the same features as of copies, and no wrong answer once a file changes or goes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cli_world
import fake_backbone
import numpy as np
import pytest
import serve_world
from cli_world import call, done

from deponij.project import last_run
from deponij.project.advice.gathering import looks_of
from deponij.project.data_sets import source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.thumbnails import images_of
from deponij.services.run import Plan, run
from deponij.services.serve.service import ServiceOptions
from deponij.services.serve.setup import ServeRequest
from deponij.store.depot import FeatureStore
from deponij.store.items import Items
from deponij.store.view import View

CHANGED, GONE, SOUND = "can/03.png", "can/04.png", "can/05.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs of the same class folders, by one depot: `held` has copies, `named` has none."""
    root = tmp_path_factory.mktemp("named")
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(last_run, "POINTER", Path(".deponij/last-run.json"))
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        cli_world.class_folders(root / "pictures")
        model = str(fake_backbone.make(root / "words"))
        for name, how in (("held", "always"), ("named", "never")):
            plan = Plan(source=source_of(folder=Path("pictures")), backbones=(model,), copy_pictures=how)
            run(plan, out=Path("runs") / name, options=RunOptions(device="cpu", threads=1, workers=1))
        yield root


@pytest.fixture
def damaged(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy of it all, in which one picture was changed and another deleted after the run."""
    for name in ("runs", "depot", "pictures", "words", ".deponij"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(last_run, "POINTER", Path(".deponij/last-run.json"))
    (tmp_path / "pictures" / GONE).unlink()
    shutil.copy(tmp_path / "pictures" / SOUND, tmp_path / "pictures" / CHANGED)
    return Layout(Path("runs/named"))


def test_the_depot_knows_no_difference(made: Path) -> None:
    held, named = (Layout(made / "runs" / name) for name in ("held", "named"))
    assert (Items(held.items).by_reference, Items(named.items).by_reference) == (False, True)
    store = FeatureStore(made / "depot")
    for identity in store.identities().values():
        # The second run computed nothing.
        every = [key for one in store.sidecars if one.fingerprint == identity.fingerprint for key in one.keys]
        assert sorted(every) == store.keys(identity)
    first, second = View(held.view("words")), View(named.view("words"))
    assert first.keys.tolist() == second.keys.tolist()
    assert np.array_equal(first.embedding, second.embedding)
    assert (named.report / "results.json").read_bytes() == (held.report / "results.json").read_bytes()


def test_what_cannot_be_shown_is_told_and_the_rest_is_shown(
    damaged: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    items = Items(damaged.items)
    assert set(images_of(items, [CHANGED, GONE, SOUND])) == {SOUND}
    told = " ".join(capsys.readouterr().err.split())
    assert "pictures that cannot be shown: 2; the first" in told and CHANGED in told
    assert {CHANGED, GONE}.isdisjoint(looks_of(items, 1)[0])
    assert SOUND in looks_of(items, 1)[0]
    found = done("query", "item", SOUND, "-k", 40, "--json").json
    assert {CHANGED, GONE} <= {hit["item_id"] for hit in found}


def test_new_rows_are_made_of_what_was_seen_or_not_at_all(damaged: Layout) -> None:
    asked = ["--items", damaged.items, "--backbone", "words", "--depot", "other", "--out", "late.h5"]
    assert call("extract", *asked).status == 3
    reasons = dict(View("late.h5").failures)
    assert "03.png has changed since the items were made" in reasons[CHANGED]
    assert "04.png' is not there" in reasons[GONE]
    assert {CHANGED, GONE}.isdisjoint(View("late.h5").ids.tolist())
    checked = call("depot", "verify", "other", "--items", damaged.items, "--backbone", "words", "--json")
    assert checked.json["drift"][0]["max_relative"] < 1e-2


def test_rows_that_cannot_be_checked_are_told(damaged: Layout) -> None:
    asked = ["--items", damaged.items, "--backbone", "words", "--rows", 40, "--json"]
    (drift,) = call("depot", "verify", "depot", *asked).json["drift"]
    assert drift["max_relative"] < 1e-2
    assert len(drift["failures"]) == 2
    assert "only name it" in drift["failures"][0]["reason"]


def test_a_server_says_why_a_picture_is_not_shown(damaged: Layout) -> None:
    wanted = ServeRequest(
        indexes=(damaged.index("words"),),
        run=RunOptions(device="cpu", threads=1),
        service=ServiceOptions("Named"),
    )
    with serve_world.client(wanted, loaded=False) as client:
        for item_id, told in ((CHANGED, "has changed"), (GONE, "is not there")):
            for path in ("thumbnail", "photograph"):
                sent = client.get(f"/api/{path}", params={"id": item_id})
                assert sent.status_code == 404
                assert told in sent.text
            assert client.get("/api/item", params={"id": item_id}).status_code == 200
        assert client.get("/api/thumbnail", params={"id": SOUND}).status_code == 200


def test_they_can_be_forgotten_and_new_items_take_what_is_there(damaged: Layout) -> None:
    answer = done("forget", CHANGED, GONE, "--json").json
    assert sorted(answer["items"]) == [CHANGED, GONE]
    left = Items(damaged.items)
    assert left.by_reference and {CHANGED, GONE}.isdisjoint(left.ids)
    call("items", "--folder", "pictures", "--out", damaged.items, "--copy", "never")
    items = Items(damaged.items)
    assert GONE not in items.ids
    assert items.keys[items.places[CHANGED]] == items.keys[items.places[SOUND]]
    assert len(items) == 3 * cli_world.N_PER_CLASS
