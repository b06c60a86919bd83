"""`--limit`: a try-out of every command that makes items, said as such and never mistaken for the whole."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import pytest
from cli_world import call, done

from deponij.project.data_sets import source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.services import run as service
from deponij.services.run import Plan
from deponij.stages import items as stage
from deponij.store.atomic import read_table
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.scenes import Scenes

TOLD = "only a part, as asked (limit): 12 of 37 items"


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


def run(tmp_path: Path, folder: Path, **plan: Any) -> dict[str, Any]:
    model = str(fake_backbone.make(tmp_path / "model"))
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)
    return service.run(
        Plan(source=source_of(folder=folder), backbones=(model,), **plan),
        out=tmp_path / "out",
        options=options,
    )


def items(tmp_path: Path, folder: Path, **more: Any) -> Items:
    stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=RunOptions(workers=2), **more)
    return Items(tmp_path / "items")


def pages(at: Layout) -> list[str]:
    return [(at.report / name).read_text().lower() for name in ("page.html", "results.md")]


def test_a_run_says_that_it_is_a_part_until_it_is_whole(tmp_path: Path) -> None:
    folder, at = cli_world.class_folders(tmp_path / "pictures"), Layout(tmp_path / "out")
    result = run(tmp_path, folder, limit=12)
    assert result["n_items"] == len(Items(at.items)) == 12
    assert [TOLD in one for one in result["parts"]] == [True]
    assert all(TOLD in page for page in pages(at))
    assert {row["split"] for row in result["results"]} == {"folds"}
    assert TOLD in " ".join(done("results", at.root).out.split())
    assert done("results", at.root, "--json").json["parts"] == result["parts"]
    whole = run(tmp_path, folder)
    assert (whole["n_items"], whole["parts"]) == (3 * cli_world.N_PER_CLASS + 1, [])
    assert not any("only a part" in page for page in pages(at))
    assert "only a part" not in done("results", at.root).out
    # What the part computed is known.
    assert [one["n_new"] for one in result["forecast"]] == [12]
    assert [one["n_new"] for one in whole["forecast"]] == [3 * cli_world.N_PER_CLASS - 12]


def test_a_part_of_a_given_split_has_every_part_of_it(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "all")
    for part, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 12))):
        for name in cli_world.COLOURS:
            (tmp_path / "parts" / part / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(folder / name / f"{number:02}.png", tmp_path / "parts" / part / name)
    items(tmp_path, tmp_path / "parts", limit=18)
    done("split", "--items", tmp_path / "items", "--strategy", "given", "--out", tmp_path / "split.parquet")
    found = read_table(tmp_path / "split.parquet")["part"].to_pylist()
    assert Counter(found) == {"train": 6, "val": 6, "test": 6}


def test_corrections_of_items_outside_the_part(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    rows = ["item_id,do,column,label", "can/00.png,relabel,label,cup", "can/11.png,leave-out,,"]
    (tmp_path / "c.csv").write_text("\n".join(rows) + "\n")
    found = items(tmp_path, folder, limit=12, corrections=(tmp_path / "c.csv",))
    assert (len(found), found.column("label")[found.places["can/00.png"]]) == (12, "cup")
    (tmp_path / "c.csv").write_text("\n".join([rows[0], rows[2]]) + "\n")
    with pytest.raises(DataError, match="or of what a limit leaves out"):
        items(tmp_path, folder, limit=12, corrections=(tmp_path / "c.csv",))


def test_items_and_crops_of_commands(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    asked = ["items", "--folder", folder, "--out", tmp_path / "items", "--limit"]
    assert "only a part" in " ".join(call(*asked, 5, "--json").json["notes"])
    assert len(Items(tmp_path / "items")) == 5
    assert "only a part" in str(Items(tmp_path / "items").part)
    assert call(*asked, 0).status == 2
    assert call(*asked, 1000).status in (0, 3)
    assert Items(tmp_path / "items").part is None
    annotations = cli_world.coco(tmp_path / "coco")
    several = ["--coco", annotations, "--images", annotations.parent / "images", "--out", tmp_path / "crops"]
    found = done("crop", *several, "--limit", 3, "--json").json
    assert (found["n_items"], len(Items(tmp_path / "crops"))) == (3, 3)
    assert "only a part, as asked (limit): 3 of 4 items" in str(Items(tmp_path / "crops").part)


def test_scenes_of_commands(tmp_path: Path) -> None:
    from deponij.sample.painter import generate

    generate(tmp_path / "coco", scenes=6, seed=2)
    where = ["--coco", tmp_path / "coco" / "annotations.json", "--images", tmp_path / "coco" / "images"]
    done("scenes", *where, "--out", tmp_path / "scenes", "--limit", 4)
    scenes = Scenes(tmp_path / "scenes")
    assert len(scenes.items) == 4
    assert "only a part, as asked (limit): 4 of 6" in str(scenes.items.part)
