"""Items and scenes that workers of a Dask cluster read and decode: byte for byte those of one process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from cli_world import done
from coco_made import annotation, document, write

from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.stages import items
from deponij.store.items import Items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a scheduler with two workers."""
    with cluster_world.processes(tmp_path_factory.mktemp("dask"), 2) as there:
        yield there.address


def made(root: Path, adapter: str, options: dict[str, Any], cluster: str) -> list[dict[str, Any]]:
    out = root / ("there" if cluster else "here")
    items.run(adapter, options, out=out, run_options=RunOptions(workers=1, cluster=cluster))
    return list(Items(out).rows(64))


def test_whole_pictures(tmp_path: Path, address: str) -> None:
    for number in range(70):
        path = tmp_path / "pictures" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = cluster_world.picture(number)
        path.write_bytes(content[:50] if number == 33 else content)
    options = {"folder": tmp_path / "pictures"}
    here = made(tmp_path, "folder", options, "")
    assert len(here) == 70
    assert sum(row["failure"] is not None for row in here) == 1
    assert made(tmp_path, "folder", options, address) == here


@pytest.mark.parametrize("adapter", ["folder", "coco"])
def test_a_picture_that_kills_its_process_becomes_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    (tmp_path / "images").mkdir()
    images = [{"id": number, "file_name": f"{number}.png", "width": 18, "height": 18} for number in range(6)]
    for number in range(6):
        content = cluster_world.deadly_picture() if number == 3 else cluster_world.picture(number)
        (tmp_path / "images" / f"{number}.png").write_bytes(content)
    file = write(
        tmp_path, document([annotation(number, (1, 1, 8, 9), id=number + 1) for number in range(6)], images)
    )
    options = {
        "folder": {"folder": tmp_path / "images"},
        "coco": {"annotations": file, "images": tmp_path / "images"},
    }[adapter]
    here = made(tmp_path, adapter, options, "")
    # A death at a time, so that it takes no minutes.
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with cluster_world.processes(tmp_path / "dask", 1, dies_of_red=True) as deadly:
        there = made(tmp_path, adapter, options, deadly.address)
    failed = [(row["image_id"], row["failure"]) for row in there if row["failure"] is not None]
    assert [name for name, _ in failed] == ["3.png"]
    assert "worker after worker died" in failed[0][1]
    assert [row for row in there if row["image_id"] != "3.png"] == [
        row for row in here if row["image_id"] != "3.png"
    ]


def test_pictures_within_other_files_are_not_sent_around(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at the address."""
    table = pa.table(
        {"image": [{"bytes": cluster_world.picture(number), "path": None} for number in range(9)]}
    )
    pq.write_table(table, tmp_path / "data.parquet")
    options = {"files": [tmp_path / "data.parquet"]}
    here = made(tmp_path, "parquet", options, "")
    assert len(here) == 9
    assert made(tmp_path, "parquet", options, "tcp://127.0.0.1:9") == here
    assert "are made without the cluster" in " ".join(capsys.readouterr().err.split())


def few_pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(cluster_world.picture(number))
    return folder


@pytest.fixture
def read_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process itself may read no picture."""
    with monkeypatch.context() as patch:
        patch.setattr("deponij.pipeline.data.adapters.folder.picture_in_file", None)
        yield


@pytest.mark.usefixtures("read_elsewhere")
def test_the_flag_of_the_command(tmp_path: Path, address: str) -> None:
    folder, out = few_pictures(tmp_path / "pictures"), tmp_path / "items"
    assert (
        done("items", "--folder", folder, "--out", out, "--cluster", address, "--json").json["n_items"] == 5
    )
    assert [row["failure"] for row in Items(out).rows(64)] == [None] * 5


@pytest.mark.usefixtures("read_elsewhere")
def test_the_environment_reaches_a_stage(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `dvc repro` runs it."""
    folder = few_pictures(tmp_path / "pictures")
    data = {"adapter": "folder", "root": str(folder), "options": {"folder": str(folder)}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"profile": "mine", "data": data}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["items"])
    monkeypatch.setenv("DEPONIJ_CLUSTER", address)
    run_stage("items", items.Params, items.main)
    assert [row["failure"] for row in Items(Layout.of("mine").items).rows(64)] == [None] * 5


def test_crops(tmp_path: Path, address: str) -> None:
    images, annotations = [], []
    (tmp_path / "images").mkdir()
    for number in range(12):
        (tmp_path / "images" / f"{number}.png").write_bytes(cluster_world.picture(number))
        images.append({"id": number, "file_name": f"{number}.png", "width": 18, "height": 18})
        annotations += [annotation(number, (k, k, 8, 9), id=3 * number + k + 1) for k in range(3)]
    file = write(tmp_path, document(annotations, images))
    options = {"annotations": file, "images": tmp_path / "images"}
    here = made(tmp_path, "coco", options, "")
    assert len(here) == 36
    assert all(row["failure"] is None for row in here)
    assert made(tmp_path, "coco", options, address) == here
