"""Every command: what it prints, its exit status, what scripts rely on, and what it says of bad input."""

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from cli_world import N_PER_CLASS, TRUNCATED, World, call, done

from deponij import cli
from deponij.store.depot import FeatureStore
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes
from deponij.store.view import View

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "open_clip", "transformers", "timm", "sklearn", "matplotlib", "dvc")
N_SOUND = 3 * N_PER_CLASS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("world")) as made:
        yield made


def commands() -> dict[tuple[str, ...], Any]:
    """Every command there is, by its words."""
    from typer.main import get_command

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, (*words, name))

    return dict(walk(get_command(cli.app), ()))


# ------------------------------------------------------------------ start-up


def in_own_process(
    arguments: list[object], environment: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], set[str], float]:
    """Run a command; what it printed, the modules it imported, and its processor seconds (not wall: others
    may be at work on this machine)."""
    code = (
        "import sys, cli\n"
        "try:\n    cli.main()\n"
        "finally:\n    sys.stderr.write('MODULES ' + ' '.join(sys.modules))\n"
    )
    command = [sys.executable, "-c", code, *(str(one) for one in arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return process, set(process.stderr.rpartition("MODULES ")[2].split()), seconds


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    for arguments in (["--help"], ["extract", "--help"], ["run", "--help"]):
        process, modules, seconds = in_own_process(list(arguments))
        assert process.returncode == 0
        assert "Usage" in process.stdout
        assert modules.isdisjoint({*HEAVY, "numpy", "pyarrow", "h5py", "pandas"})
        # Half of that on a quiet machine; what else runs on it may disturb one try.
        assert seconds < 1.0 or min(in_own_process(list(arguments))[2] for _ in range(3)) < 1.0


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_option_has_help(words: tuple[str, ...]) -> None:
    assert [one.name for one in commands()[words].params if not getattr(one, "help", None)] == []
    answer = done(*words, "--help")
    assert f"deponij {' '.join(words)}".strip() in answer.out
    assert answer.err == ""


def test_the_commands_that_people_rely_on_are_there() -> None:
    names = {" ".join(words) for words in commands()}
    wanted = "run, data fetch, data sample, crop, items, split, extract, extract-text, probe, zero-shot"
    wanted += ", depot info, depot verify, depot merge, depot compact, depot gc, view info, view export"
    wanted += ", backbones, doctor, profile use, weights fetch"
    assert set(wanted.split(", ")) <= names


def test_nothing_to_compute_for_5000_items_touches_no_backbone(tmp_path: Path) -> None:
    from deponij.pipeline.backbones import describe
    from deponij.pipeline.backbones.kinds import Kind
    from deponij.pipeline.pictures import Route
    from deponij.project.extraction import identities

    keys = []
    with ItemWriter(tmp_path / "items", pa.schema([])) as writer:
        for number in range(5000):
            content = f"no picture {number}".encode()
            keys.append(key_of_bytes(content))
            core = {"image_id": f"{number}", "width_px": 1, "height_px": 1}
            writer.add(item_id=f"{number}", key=keys[-1], content=content, metadata={}, **core)
    # Remembers the hash of the weights, as any earlier run has.
    environment = {"DEPONIJ_CACHE": str(tmp_path / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", environment["DEPONIJ_CACHE"])
        description = describe("mini-openclip")
    identity = identities.of_pictures(description, Kind.parse("embedding"), Route.DRAFT, "fp32", "float32")
    with FeatureStore(tmp_path / "depot", create=True).writer(identity, {}) as rows:
        for start in range(0, 5000, 500):
            part = np.full((500, description.dim), start, np.float32)
            rows.add(keys[start : start + 500], {"embedding": part})
    arguments = ["extract", "--items", tmp_path / "items", "--backbone", "mini-openclip", "--json"]
    arguments += ["--depot", tmp_path / "depot", "--out"]

    def extracted(name: str) -> float:
        process, modules, seconds = in_own_process([*arguments, tmp_path / name], environment)
        result = json.loads(process.stdout)
        assert (result["n_items"], result["n_known"], result["n_computed"]) == (5000, 5000, 0)
        assert modules.isdisjoint(HEAVY)
        return seconds

    # What else runs on this machine may disturb one try.
    assert extracted("view.h5") < 2.0 or min(extracted(f"again {n}.h5") for n in range(2)) < 2.0
    assert View(tmp_path / "view.h5").embedding.shape == (5000, description.dim)


def test_installed_command_and_its_exit_statuses(world: World, tmp_path: Path) -> None:
    """0 done, 1 failed, 2 wrong usage, 3 done but some failed: as a shell sees them."""
    command = shutil.which("deponij", path=str(Path(sys.executable).parent))
    assert command, "the project is not installed in this environment"
    items = ["items", "--folder", world.pictures, "--out"]
    for arguments, status in (
        (["backbones", "--json"], 0),
        (["depot", "info", tmp_path / "absent"], 1),
        (["split", "--strategy", "no-such"], 2),
        ([*items, tmp_path / "items"], 3),
    ):
        words = [command, *(str(one) for one in arguments)]
        process = subprocess.run(words, capture_output=True, text=True, check=False)
        assert process.returncode == status, process.stderr
        assert "Traceback" not in process.stderr


# ------------------------------------------------------------------ shapes that scripts rely on


def test_every_json_is_one_document_and_messages_go_elsewhere(world: World, tmp_path: Path) -> None:
    photographs, depot = cli_world.coco(tmp_path / "coco"), ["--depot", tmp_path / "depot"]
    parquet = tmp_path / "hub.parquet"
    content = (world.pictures / "can" / "00.png").read_bytes()
    pq.write_table(
        pa.table({"image": [{"bytes": content, "path": "a.png"}] * 3, "label": ["x", "y", "x"]}), parquet
    )
    extract = [
        "extract",
        "--items",
        world.items,
        "--backbone",
        world.words,
        "--out",
        tmp_path / "v.h5",
        *depot,
    ]
    text = ["--items", world.items, "--labels", "label", "--template", "name", "--template", "litter: {}"]
    for arguments, status in (
        (["data", "sample", "--root", tmp_path / "sample", "--scenes", 2], 0),
        (
            [
                "crop",
                "--coco",
                photographs,
                "--images",
                photographs.parent / "images",
                "--out",
                tmp_path / "c",
            ],
            0,
        ),
        (["items", "--folder", world.pictures, "--out", tmp_path / "i"], 3),
        (["items", "--parquet", parquet, "--out", tmp_path / "p"], 0),
        (["split", "--items", world.items, "--out", tmp_path / "s.parquet", "--strategy", "group"], 0),
        (extract, 3),
        (["extract-text", "--backbone", world.words, "--out", tmp_path / "t.h5", *text, *depot], 0),
        (["probe", *world.learning], 0),
        (["zero-shot", *world.learning, "--texts", world.texts], 0),
        (["depot", "info", tmp_path / "depot"], 0),
        (["depot", "verify", tmp_path / "depot"], 0),
        (["depot", "merge", world.depot, tmp_path / "depot"], 0),
        (["depot", "compact", tmp_path / "depot"], 0),
        (["depot", "gc", tmp_path / "depot", "--keep-view", tmp_path / "v.h5"], 0),
        (["depot", "migrate", tmp_path / "depot"], 0),
        (["view", "info", world.view], 0),
        (["backbones"], 0),
        (["doctor"], 0),
        (["profile", "list"], 0),
    ):
        answer = call(*arguments, "--json")
        assert answer.status == status, f"{arguments}: {answer}"
        assert isinstance(json.loads(answer.out), dict | list)
        assert "Traceback" not in answer.err


def test_items_carry_the_columns_of_their_source(world: World, tmp_path: Path) -> None:
    table = pq.read_table(world.items / "items-00000.parquet").to_pydict()
    labels = dict(zip(table["item_id"], table["label"], strict=True))
    assert labels["can/03.png"] == "can"
    assert labels[TRUNCATED] == "cup"
    annotations = cli_world.coco(tmp_path / "coco")
    done(
        "crop", "--coco", annotations, "--images", annotations.parent / "images", "--out", tmp_path / "items"
    )
    table = pq.read_table(tmp_path / "items" / "items-00000.parquet").to_pydict()
    assert table["item_id"] == ["a.png#0", "a.png#1", "b.png#0", "b.png#1"]
    assert table["category"] == ["Can", "Bottle"] * 2
    assert table["supercategory"] == ["Metal", "Plastic"] * 2
    assert [(w, h) for w, h in zip(table["width_px"], table["height_px"], strict=True)] == [(10, 9)] * 4


def test_split_file_has_parts_and_photographs(world: World) -> None:
    table = pq.read_table(world.split)
    assert table.schema.names == ["item_id", "part", "group"]
    assert table["group"].to_pylist() == pq.read_table(world.items)["image_id"].to_pylist()
    parts = dict(zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True))
    assert parts[TRUNCATED] is None
    assert {part for item_id, part in parts.items() if item_id != TRUNCATED} == {"train", "val", "test"}


def test_backbones_are_listed_with_their_facts() -> None:
    rows = {row["name"]: row for row in done("backbones", "--json").json}
    for row in rows.values():
        assert {"name", "family", "dim", "input_px", "has_text", "source", "present"} <= set(row)
    assert {"mini-openclip", "mini-siglip", "mini-dinov2", "openclip-vit-b-16", "dinov2-base"} <= set(rows)
    assert rows["mini-openclip"]["present"] is True
    assert (rows["mini-openclip"]["has_text"], rows["mini-dinov2"]["has_text"]) == (True, False)
    assert rows["dinov2-base"]["dim"] == 768
    table = done("backbones").out
    assert (
        "toys, which learnt from drawn litter only: mini-openclip, mini-siglip, mini-dinov2, mini-convnext\n"
        in table
    )
    assert all(name in table for name in rows)


@pytest.mark.parametrize("command", ["probe", "zero-shot"])
def test_scores_hold_what_is_promised(world: World, command: str) -> None:
    texts = ["--texts", world.texts] if command == "zero-shot" else []
    result = done(command, *world.learning, *texts, "--json").json
    assert (result["backbone"], result["labels"]) == ("words", "label")
    parts = pq.read_table(world.split)["part"].to_pylist()
    for part, scores in result["parts"].items():
        assert scores["n"] == parts.count(part)
        assert 0 <= scores["top1"] <= scores["top2"] <= scores["top3"] == 1
        assert 1 <= scores["n_groups"] <= scores["n"]
        for name, share in (("top1", scores["top1"]), ("balanced", scores["balanced_accuracy"])):
            bounds = scores[f"{name}_interval"]
            assert (bounds is None) == (scores["n_groups"] < 10) == (scores["interval_kind"] == "too few")
            low, high = bounds or (0, 1)
            assert 0 <= low <= share <= high <= 1
    assert set(result["parts"]) == {"train", "val", "test"}
    if command == "probe":
        assert result["parts"]["test"]["top1"] == 1, "colours are easy"
    table = done(command, *world.learning, *texts).out
    assert "top-1 [95 %]" in table
    assert "words" in table


def test_the_whole_way_in_one_command(world: World, tmp_path: Path) -> None:
    flags = ["--backbone", world.words, "--backbone", world.mute, "--depot", tmp_path / "depot"]
    answer = call("run", "--folder", world.pictures, *flags, "--out", tmp_path / "out", "--json")
    assert answer.status == 3
    rows = [row for row in answer.json["results"] if not row["is_baseline"]]
    assert all(row["n"] > 0 for row in rows)
    of = Counter("+".join(sorted(row["backbone"].split("+"))) for row in rows)
    # Logistic regression, k-NN, class means, a linear head and an MLP of each, three that start from texts of one;
    # of both together a linear head, an MLP and six ensembles.
    assert of == {"mute": 5, "words": 5 + 3, "mute+words": 2 + 6}
    assert Path(answer.json["page"]).is_file()
    assert answer.json["n_failed"] == 1
    before = {p.name for p in (tmp_path / "depot").rglob("*.h5")}
    again = call("run", "--folder", world.pictures, *flags, "--out", tmp_path / "out")
    assert again.status == 3
    assert {p.name for p in (tmp_path / "depot").rglob("*.h5")} == before, "rows were computed again"
    assert "top-1 [95 %]" in again.out
    # The first table comes long before the last one.
    first, _, rest = again.out.partition("the run goes on with")
    assert "WiSE-FT" in first
    assert "greedy" not in first
    assert "greedy" in rest
    assert str(tmp_path / "out") in again.out
    indexes = {one["backbone"]: one["has_texts"] for one in answer.json["indexes"]}
    assert indexes == {"mute": False, "words": True}
    query, serve = answer.json["ask"]
    # Words can be asked of one of the two only.
    assert serve == "deponij serve"
    assert query in again.out
    assert serve in again.out
    hits = done(*shlex.split(query.replace("WORDS", "can"))[1:], "--top", "3", "--json").json
    assert len(hits) == 3


def test_a_truncated_picture_ends_in_the_failure_table_and_the_rest_is_done(world: World) -> None:
    info = done("view", "info", world.view, "--json").json
    assert [failure["item_id"] for failure in info["failures"]] == [TRUNCATED]
    assert info["failures"][0]["reason"]
    assert info["n_rows"] == N_SOUND
    view = View(world.view)
    assert view.embedding.shape[0] == N_SOUND
    assert TRUNCATED not in view.ids.tolist()
    told = done("view", "info", world.view).out
    assert TRUNCATED in told


def test_export_opens_elsewhere(world: World, tmp_path: Path) -> None:
    done("view", "export", world.view, tmp_path / "out.parquet", "--items", world.items)
    table = pq.read_table(tmp_path / "out.parquet")
    assert {"item_id", "label", "embedding"} <= set(table.schema.names)
    assert table.num_rows == N_SOUND
    done("view", "export", world.view, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embedding"], View(world.view).embedding)


def test_gc_is_a_dry_run_unless_told(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.depot, tmp_path / "depot")
    before = done("depot", "info", tmp_path / "depot", "--json").json["n_rows"]
    keep = ["depot", "gc", tmp_path / "depot", "--keep-view", world.view, "--json"]
    done(*keep)
    assert done("depot", "info", tmp_path / "depot", "--json").json["n_rows"] == before
    done(*keep, "--delete")
    assert done("depot", "info", tmp_path / "depot", "--json").json["n_rows"] == N_SOUND


def test_verify_extracts_again_and_finds_damage(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.depot, tmp_path / "depot")
    flags = ["--items", world.items, "--backbone", world.words, "--rows", 5]
    report = done("depot", "verify", tmp_path / "depot", *flags, "--json").json
    assert report["sound"] is True
    # The made-up model's rows hang on their batch by a thousandth.
    assert [line["n_rows"] for line in report["drift"]] == [5]
    assert 0 < report["drift"][0]["max_relative"] < 0.01
    shard = next((tmp_path / "depot").rglob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-3] + b"xyz")
    answer = call("depot", "verify", tmp_path / "depot")
    assert answer.status == 1
    assert "--repair" in answer.out
    done("depot", "verify", tmp_path / "depot", "--repair")
    done("depot", "verify", tmp_path / "depot")


# ------------------------------------------------------------------ profiles and parameters


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_profiles_are_put_into_force_and_edits_are_kept(checkout: Path) -> None:
    done("profile", "use", "sample")
    assert (checkout / "params.yaml").read_bytes() == (checkout / "profiles/sample.yaml").read_bytes()
    assert {row["name"]: row["in_force"] for row in done("profile", "list", "--json").json} == {
        "custom": False,
        "sample": True,
        "taco": False,
    }
    answer = call("profile", "use", "tacco")
    assert answer.status == 2
    assert "custom, sample, taco" in answer.err
    (checkout / "params.yaml").write_text("profile: sample\n")
    answer = call("profile", "use", "taco")
    assert answer.status == 2
    assert "--force" in answer.err
    assert (checkout / "params.yaml").read_text() == "profile: sample\n"
    done("profile", "use", "taco", "--force")
    assert yaml.safe_load((checkout / "params.yaml").read_text())["profile"] == "taco"


def test_all_mistakes_in_params_are_reported_together(checkout: Path) -> None:
    values = yaml.safe_load((checkout / "profiles" / "sample.yaml").read_text())
    values["haeds"] = values.pop("heads")
    values["extract"] = {"kind": 7, "precision": "fp8", "sored": "float32"}
    del values["backbones"]
    (checkout / "params.yaml").write_text(yaml.safe_dump(values))
    process = subprocess.run(
        [sys.executable, "-m", "deponij.stages.extract", "mini-openclip"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    for said in (
        "did you mean 'heads'",
        "extract.kind",
        "extract.precision",
        "'fp8'",
        "extract.sored",
        "backbones",
    ):
        assert said in process.stderr
    assert call("results").status == 2


# ------------------------------------------------------------------ bad input


def damaged_view(world: World, tmp_path: Path) -> list[object]:
    content = bytearray(world.view.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "damaged.h5").write_bytes(content)
    return ["probe", *world.learning, "--features", tmp_path / "damaged.h5"]


def view_of_other_items(world: World, tmp_path: Path) -> list[object]:
    annotations = cli_world.coco(tmp_path / "coco")
    done(
        "crop", "--coco", annotations, "--images", annotations.parent / "images", "--out", tmp_path / "items"
    )
    return ["probe", *world.learning, "--items", tmp_path / "items", "--labels", "category"]


def split_of_other_items(world: World, tmp_path: Path) -> list[object]:
    pq.write_table(pa.table({"item_id": ["x", "y"], "part": ["train", "test"]}), tmp_path / "other.parquet")
    return ["probe", *world.learning, "--split", tmp_path / "other.parquet"]


def texts_lack_a_class(world: World, tmp_path: Path) -> list[object]:
    (tmp_path / "texts.json").write_text(json.dumps({"can": ["a can"], "cup": ["a cup"]}))
    flags = ["--depot", world.depot, "--texts", tmp_path / "texts.json"]
    done("extract-text", "--backbone", world.words, "--out", tmp_path / "few.h5", *flags)
    return ["zero-shot", *world.learning, "--texts", tmp_path / "few.h5"]


def wrong_file(name: str, content: str, *arguments: object) -> Callable[[World, Path], list[object]]:
    """A command whose argument `FILE` is a file with this content."""

    def prepare(world: World, tmp_path: Path) -> list[object]:
        (tmp_path / name).write_text(content)
        return [*_filled(arguments, world, tmp_path, tmp_path / name)]

    return prepare


def command(*arguments: object) -> Callable[[World, Path], list[object]]:
    return lambda world, tmp_path: _filled(arguments, world, tmp_path, tmp_path / "absent")


def _filled(arguments: tuple[object, ...], world: World, tmp_path: Path, file: Path) -> list[object]:
    """`@items` is the world's; TMP a folder for this test; FILE see above; LEARNING the learners' flags."""
    filled: list[object] = []
    for one in arguments:
        if one == "LEARNING":
            filled += world.learning
        elif isinstance(one, str) and one.startswith("@"):
            filled.append(getattr(world, one[1:]))
        elif isinstance(one, str) and one.startswith("TMP"):
            filled.append(f"{tmp_path}{one[3:]}")
        else:
            filled.append(file if one == "FILE" else one)
    return filled


_TO = ("--out", "TMP/out")
_EXTRACT = ("extract", "--items", "@items", "--backbone", "@words", *_TO, "--depot", "TMP/depot")
_TEXT = ("extract-text", "--backbone", "@words", *_TO, "--depot", "TMP/depot")
BAD: dict[str, tuple[Callable[[World, Path], list[object]], int, str]] = {
    "missing folder": (command("items", "--folder", "TMP/absent", *_TO), 1, "does not exist"),
    "empty folder": (command("items", "--folder", "TMP", *_TO), 1, "no pictures"),
    "file instead of folder": (wrong_file("a.txt", "", "items", "--folder", "FILE", *_TO), 1, "not a folder"),
    "two data sets": (
        command("run", "--folder", "@pictures", "--coco", "x", "--images", "y"),
        2,
        "name one data set",
    ),
    "no data set": (command("run"), 2, "--folder DIR"),
    "crops of no data set": (
        command("crop", *_TO),
        2,
        "name one data set: --coco FILE --images DIR or --yolo",
    ),
    "items of no data set": (
        command("items", *_TO),
        2,
        "name one data set: --folder DIR or --table FILE or --par",
    ),
    "photographs of class folders": (
        command("run", "--folder", "@pictures", "--images", "y"),
        2,
        "--folder says by itself where pictures are",
    ),
    "coco without images": (command("run", "--coco", "x"), 2, "--images DIR go together"),
    "parquet that is none": (
        wrong_file("a.parquet", "x", "items", "--parquet", "FILE", *_TO),
        1,
        "a.parquet",
    ),
    "annotations that are no JSON": (
        wrong_file("a.json", '{"images": [', "crop", "--coco", "FILE", "--images", "TMP", *_TO),
        1,
        "not valid JSON",
    ),
    "annotations that are no COCO": (
        wrong_file("a.json", "[]", "crop", "--coco", "FILE", "--images", "TMP", *_TO),
        1,
        "a.json",
    ),
    "annotations missing": (command("crop", "--coco", "FILE", "--images", "TMP", *_TO), 1, "does not exist"),
    "out is a folder of others": (
        command("items", "--folder", "@pictures", "--out", "@pictures"),
        1,
        "other files",
    ),
    "no items": (command("split", "--items", "TMP", *_TO), 1, "there are no items at"),
    "unknown strategy": (command("split", "--items", "@items", *_TO, "--strategy", "gruop"), 2, "gruop"),
    "taco56 without TACO": (command("split", "--items", "@items", *_TO, "--strategy", "taco56"), 1, "TACO"),
    "a treatment of nothing": (
        command("items", "--folder", "@pictures", *_TO, "--treat", "cup"),
        2,
        "NAME=WHAT",
    ),
    "an unknown treatment": (
        command("items", "--folder", "@pictures", *_TO, "--treat", "cup=cat"),
        2,
        "'skip'",
    ),
    "a treatment of what is not there": (
        command("items", "--folder", "@pictures", *_TO, "--treat", "cop=skip"),
        2,
        "nothing here is named 'cop'",
    ),
    "boxes of whole pictures": (
        command("run", "--folder", "@pictures", *_TO, "--boxes", "xyxy"),
        2,
        "--boxes is for a COCO file .*--folder names whole",
    ),
    "given where nothing is": (
        command("split", "--items", "@items", *_TO, "--strategy", "given"),
        1,
        "brings no split",
    ),
    "unknown column to split by": (
        command("split", "--items", "@items", *_TO, "--labels", "lable"),
        2,
        "lable",
    ),
    "unknown backbone": (
        command("extract", "--items", "@items", "--backbone", "mini-openclp", *_TO),
        2,
        "Did you mean 'mini-openclip'",
    ),
    "folder that is no backbone": (
        command("extract", "--items", "@items", "--backbone", "@pictures", *_TO),
        1,
        "folder",
    ),
    "absent weights": (
        command("extract", "--items", "@items", "--backbone", "dinov2-giant", *_TO),
        1,
        "weights fetch dinov2-giant",
    ),
    "extract without items": (command(*_EXTRACT, "--items", "TMP"), 1, "there are no items at"),
    "unknown kind": (command(*_EXTRACT, "--kind", "embeddings"), 2, "tokens"),
    "more blocks than there are": (command(*_EXTRACT, "--kind", "tokens@9"), 1, "9 blocks"),
    "unknown precision": (command(*_EXTRACT, "--precision", "fp8"), 2, "fp8"),
    "unknown device": (command(*_EXTRACT, "--device", "gpu"), 2, "gpu"),
    "absent device": (command(*_EXTRACT, "--device", "mps"), 2, "no device 'mps'"),
    "batch size in words": (command(*_EXTRACT, "--batch-size", "many"), 2, "many"),
    "depot is something else": (command(*_EXTRACT, "--depot", "@pictures"), 1, "no depot"),
    "depot is a file": (wrong_file("a.txt", "x", *_EXTRACT, "--depot", "FILE"), 1, "a.txt"),
    "depot of no protocol": (command(*_EXTRACT, "--depot", "nosuch://x"), 1, "nosuch"),
    "no text tower": (command(*_TEXT, "--backbone", "@mute", "--texts", "@texts"), 1, "text"),
    "texts missing": (command(*_TEXT, "--texts", "FILE"), 1, "cannot be read"),
    "texts empty": (wrong_file("t.txt", "\n\n", *_TEXT, "--texts", "FILE"), 1, "holds no text"),
    "texts of another shape": (wrong_file("t.json", '{"a": 1}', *_TEXT, "--texts", "FILE"), 1, "must hold"),
    "texts and labels": (
        command(*_TEXT, "--texts", "x", "--items", "@items", "--labels", "label"),
        2,
        "either",
    ),
    "neither texts nor labels": (command(*_TEXT), 2, "--texts FILE"),
    "no template": (
        command(*_TEXT, "--items", "@items", "--labels", "label", "--template", "photos"),
        2,
        "photos",
    ),
    "texts of an absent column": (command(*_TEXT, "--items", "@items", "--labels", "lable"), 1, "lable"),
    "damaged view": (damaged_view, 1, "damaged"),
    "no view": (command("probe", "LEARNING", "--features", "FILE"), 1, "there is no view"),
    "items are no view": (wrong_file("v.h5", "x", "probe", "LEARNING", "--features", "FILE"), 1, "v.h5"),
    "view of other items": (view_of_other_items, 1, "made from other items"),
    "split of other items": (split_of_other_items, 1, "other.parquet|split"),
    "no split": (command("probe", "LEARNING", "--split", "FILE"), 1, "there is no table"),
    "unknown label column": (command("probe", "LEARNING", "--labels", "lable"), 2, "label"),
    "label set absent": (command("probe", "LEARNING", "--labels", "taco10"), 2, "no column 'taco10'"),
    "texts lack a class": (texts_lack_a_class, 1, "'lid'.*extract-text"),
    "texts of another model": (
        command("zero-shot", "LEARNING", "--features", "@mute_view", "--texts", "@texts"),
        1,
        "different models: weights",
    ),
    "pictures for texts": (command("zero-shot", "LEARNING", "--texts", "@view"), 1, "must be of kind 'text'"),
    "texts for pictures": (command("probe", "LEARNING", "--features", "@texts"), 2, "needs `embedding`"),
    "no depot": (command("depot", "info", "TMP/absent"), 1, "there is no depot at"),
    "verify half asked": (command("depot", "verify", "@depot", "--items", "@items"), 2, "both"),
    "merge of nothing": (command("depot", "merge", "TMP/absent", "TMP/depot"), 1, "there is no depot at"),
    "gc of everything": (command("depot", "gc", "@depot"), 2, "--keep-view"),
    "export to what is unknown": (command("view", "export", "@view", "TMP/out.pickle"), 1, "npz"),
    "unknown data set to fetch": (command("data", "fetch", "tacos"), 2, "taco"),
    "annotations to fetch absent": (
        command("data", "fetch", "taco", "--root", "TMP/taco", "--annotations", "TMP/absent.json"),
        1,
        "absent.json",
    ),
    "weights of no backbone": (command("weights", "fetch", "dinov3-base"), 2, "dinov2-base"),
    "no command": (command("extrct"), 2, "extrct"),
    "no flag": (command("probe"), 2, "--run FOLDER"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_message(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    prepare, status, pattern = BAD[case]
    monkeypatch.chdir(tmp_path)
    arguments = prepare(world, tmp_path)
    before = {p: p.read_bytes() for p in world.root.rglob("*") if p.is_file()}
    answer = call(*arguments)
    assert answer.status == status, answer
    assert re.search(pattern, answer.err, re.DOTALL), answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    lost = [p for p, content in before.items() if not p.is_file() or p.read_bytes() != content]
    assert lost == [], "what was stored is changed"


@pytest.fixture
def readable_by_all() -> Iterator[Path]:
    """A folder that another user can go into; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="deponij-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(output: Path, *arguments: object) -> int:
    """Run a command in a child that has lost root's rights; its status. What it says goes to `output`."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            answer = call(*arguments)
            output.write_text(answer.out + answer.err)
            status = answer.status
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_read_only_depot_serves_what_it_knows_and_refuses_what_it_does_not(
    world: World, readable_by_all: Path
) -> None:
    shutil.copytree(world.depot, readable_by_all / "depot")
    for name in ("items", "words", "mute"):
        shutil.copytree(world.root / name, readable_by_all / name)
    for path in (readable_by_all / "depot", *(readable_by_all / "depot").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (readable_by_all / "out").mkdir(mode=0o777)
    (readable_by_all / "out").chmod(0o777)
    said, view = readable_by_all / "out" / "said", readable_by_all / "out" / "view.h5"
    flags = ["--items", readable_by_all / "items", "--out", view, "--depot", readable_by_all / "depot"]
    # One picture is unreadable and is tried again each time; everything else is known.
    failures = [item for item in pq.read_table(readable_by_all / "items")["failure"].to_pylist() if item]
    assert len(failures) == 1
    assert as_nobody(said, "extract", "--backbone", readable_by_all / "words", *flags) == 3, said.read_text()
    assert len(View(view)) == N_SOUND
    # Another input size is another identity, of which nothing is known.
    assert (
        as_nobody(said, "extract", "--backbone", readable_by_all / "words", *flags, "--input-px", 24, 24) == 1
    )
    assert "cannot write" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_a_file_name_outside_the_folder_is_refused_and_the_rest_is_done(tmp_path: Path) -> None:
    cli_world.picture((1, 2, 3), 0).save(tmp_path / "secret.png")
    annotations = cli_world.coco(tmp_path / "coco", file_name="../../secret.png")
    flags = ["--coco", annotations, "--images", annotations.parent / "images", "--out", tmp_path / "items"]
    answer = call("crop", *flags, "--json")
    assert answer.status == 3
    assert (answer.json["n_items"], answer.json["n_failed"]) == (4, 2)
    table = pq.read_table(tmp_path / "items" / "items-00000.parquet").to_pydict()
    assert [bool(failure and "outside" in failure) for failure in table["failure"]] == [
        True,
        True,
        False,
        False,
    ]


def test_a_data_set_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "x.png").write_bytes(b"no picture")
    answer = call("items", "--folder", tmp_path / "in", "--out", tmp_path / "items")
    assert answer.status == 1
    assert "not one of 1 items" in answer.err
    assert not (tmp_path / "items").exists()


def keys_of(folder: Path) -> list[str | None]:
    return [
        key for file in sorted(folder.glob("*.parquet")) for key in pq.read_table(file)["key"].to_pylist()
    ]


def test_boxes_of_another_form_are_refused_and_read_as_told(tmp_path: Path) -> None:
    path = cli_world.coco(tmp_path / "coco")
    flags = ["--images", path.parent / "images", "--coco"]
    done("crop", *flags, path, "--out", tmp_path / "items")
    document = json.loads(path.read_text())
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        one["bbox"] = [x / 24, y / 20, (x + w) / 24, (y + h) / 20]
        one["iscrowd"] = 1
    shares = path.with_name("shares.json")
    shares.write_text(json.dumps(document))
    answer = call("crop", *flags, shares, "--out", tmp_path / "none")
    assert answer.status == 1
    assert "--boxes xyxy-normalised" in answer.err
    told = [*flags, shares, "--boxes", "xyxy-normalised"]
    answer = call("crop", *told, "--out", tmp_path / "none")
    assert answer.status == 1
    assert "not one of 4 items" in answer.err
    assert "--keep-crowds" in answer.err
    done("crop", *told, "--keep-crowds", "--out", tmp_path / "read")
    assert keys_of(tmp_path / "read") == keys_of(tmp_path / "items")


def test_what_beside_parts_is_left_open_is_told_by_name(tmp_path: Path) -> None:
    for name in ("training_set/a", "training_set/b", "test_set/a", "samples"):
        (tmp_path / "in" / name).mkdir(parents=True)
        cli_world.picture((1, 2, 3), len(name)).save(tmp_path / "in" / name / "1.png")
    flags = ["--folder", tmp_path / "in", "--out", tmp_path / "items"]
    answer = call("items", *flags)
    assert answer.status == 1
    assert "--treat samples=skip" in answer.err
    assert (
        "note: pictures in folders that are left out as asked: 1"
        in done("items", *flags, "--treat", "samples=skip").err
    )
    table = pq.read_table(tmp_path / "items" / "items-00000.parquet").to_pydict()
    assert dict(zip(table["item_id"], zip(table["given"], table["label"], strict=True), strict=True)) == {
        "test_set/a/1.png": ("test", "a"),
        "training_set/a/1.png": ("train", "a"),
        "training_set/b/1.png": ("train", "b"),
    }


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deponij.services.run.run", interrupted)
    answer = call("run", "--folder", tmp_path, "--backbone", "mini-dinov2")
    assert answer.status == 130
    assert answer.err.endswith("interrupted; what was committed is kept, run the same command to go on\n")
