"""The loop of a user's hour, by commands: run, read the advice, take it, run again; and which pictures to label first."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cli_world
import fake_backbone
import numpy as np
import pytest
from cli_world import call, done
from PIL import Image

from deponij.pipeline.advice.records import Advice
from deponij.pipeline.data.corrections import read_corrections
from deponij.project.advice.acting import Acting
from deponij.services.advice import read_advice, take
from deponij.store.errors import StoreError, UsageError
from deponij.store.items import Items
from deponij.store.sealed import sealed

TRUNCATED, FLAT, COPY = cli_world.TRUNCATED, "lid/03.png", "cup/copy.png"
NEW = [f"new {number}.png" for number in range(4)]


@dataclass(frozen=True)
class Ran:
    """A run of pictures that have something of everything, and what it printed."""

    root: Path
    printed: str

    @property
    def run(self) -> Path:
        return self.root / "runs" / "mine"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("advice")
    folder = cli_world.class_folders(root / "pictures")
    # One shows nothing, one lies in two classes, four have no label: three new ones, and a copy of one of them.
    Image.eval(cli_world.picture((200, 200, 200), 7), lambda value: value // 9).save(folder / FLAT)
    shutil.copy(folder / "can/05.png", folder / COPY)
    for number, name in enumerate(NEW[:3]):
        cli_world.picture((120, 120, 40 * number), 900 + number).save(folder / name)
    shutil.copy(folder / NEW[0], folder / NEW[3])
    fake_backbone.make(root / "model", has_text=False)
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.setenv("DEPONIJ_THREADS", "1")
        yield Ran(root, done("run", "--folder", "pictures", "--backbone", "model", status=3).out)


@pytest.fixture
def advice(ran: Ran) -> Advice:
    return read_advice(ran.run)


def test_what_was_put_there_is_found(advice: Advice) -> None:
    found = {one.kind: {subject.item_id for subject in one.subjects} for one in advice.findings}
    assert found["unreadable"] == {TRUNCATED}
    assert found["flat"] == {FLAT}
    assert found["duplicates"] == {"can/05.png", COPY}
    # Never two that are alike.
    assert found["unlabelled"] < set(NEW) and not {NEW[0], NEW[3]} <= found["unlabelled"]
    assert next(one.n for one in advice.findings if one.kind == "unlabelled") == 4


def test_a_run_and_results_end_with_the_first_of_it(ran: Ran, advice: Advice) -> None:
    for printed in (ran.printed, done("results", ran.run).out):
        tail = printed[printed.index("what to do next: deponij advice") :].splitlines()
        assert tail[1] == f" 1  {advice.findings[0].title}"
        assert max(map(len, tail)) <= 80 or str(ran.root) in printed


def test_every_command_that_is_named_parses(advice: Advice, ran: Ran) -> None:
    for line in [*advice.again, *(act for one in advice.findings for act in (*one.acts, one.look) if act)]:
        command, *words = line.split()[1:]
        # Of flags that do not exist, and of words that are missing, the parser says so before anything is done.
        assert f"--{'help'}" in done(command, "--help").out
        flags = {word for word in words if word.startswith("--")}
        assert all(flag in done(command, "--help").out for flag in flags), line


def test_the_list_is_printed_and_given_as_json(ran: Ran, advice: Advice) -> None:
    printed = done("advice", ran.run).out
    for one in advice.findings:
        assert one.title in printed
        assert all(act in printed for act in one.acts)
    assert done("advice", ran.run, "--json").json == advice.model_dump(mode="json")


def test_sheets_hold_the_pictures(ran: Ran, advice: Advice) -> None:
    sheets = {one.kind: one.sheet for one in advice.findings}
    assert sheets["unreadable"] == ""
    for kind in ("flat", "duplicates", "unlabelled"):
        with Image.open(ran.run / sheets[kind]) as image:
            assert image.format == "PNG"


def test_what_is_taken_is_done_by_a_run_after_it(ran: Ran) -> None:
    done(
        "advice",
        ran.run,
        "--take",
        "flat",
        "--take",
        "unreadable",
        "--take",
        "duplicates",
        "--into",
        "fixes.csv",
    )
    again = done("advice", ran.run, "--take", "flat", "--into", "fixes.csv", "--json").json
    assert again == {"n_new": 0, "n_there": 1, "n_rows": 4, "n_undecided": 0}
    rows = list(csv.DictReader((ran.root / "fixes.csv").open(encoding="utf-8-sig", newline="")))
    assert {(row["item_id"], row["do"]) for row in rows} == {
        (FLAT, "leave-out"),
        (TRUNCATED, "leave-out"),
        ("can/05.png", ""),
        (COPY, ""),
    }
    # A person decides, and relabels one more.
    text = (
        "item_id,do,label\n"
        + f"{FLAT},leave-out,\n{TRUNCATED},leave-out,\n{COPY},leave-out,\ncan/05.png,right,\n"
    )
    (ran.root / "fixes.csv").write_text(text + f"{NEW[0]},,can\nlid/05.png,relabel,cup\n")
    told = done(
        "run",
        "--folder",
        "pictures",
        "--backbone",
        "model",
        "--out",
        "runs/mine-2",
        "--corrections",
        "fixes.csv",
    )
    assert "items left out: 3" in told.err and "items relabelled: 2" in told.err
    table = Items("runs/mine-2/items")
    assert not {FLAT, TRUNCATED, COPY} & set(table.ids)
    labels = dict(zip(table.ids, table.column("label"), strict=True))
    assert (labels[NEW[0]], labels["lid/05.png"], labels["can/05.png"]) == ("can", "cup", "can")
    after = {one.kind for one in read_advice("runs/mine-2").findings}
    assert not {"flat", "unreadable", "duplicates"} & after
    assert (
        read_advice("runs/mine-2").again == ()
        or "--corrections fixes.csv" in read_advice("runs/mine-2").again[0]
    )


def test_a_list_to_keep_is_a_runs_only_items(ran: Ran) -> None:
    ids = [one for one in Items(ran.run / "items").ids if not one.startswith("lid/0")]
    (ran.root / "keep.txt").write_text("".join(f"{one}\n" for one in ids))
    done(
        "run",
        "--folder",
        "pictures",
        "--backbone",
        "model",
        "--out",
        "runs/kept",
        "--keep",
        "keep.txt",
        status=3,
    )
    assert set(Items("runs/kept/items").ids) == set(ids)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--take", "labels"], "go together"),
        (["--into", "fixes.csv"], "go together"),
        (["--take", "nonsense", "--into", "f.csv"], "there is nothing to take of 'nonsense'"),
        (["--take", "unlabelled", "--into", "f.csv"], "there is nothing to take"),
        (["--take", "flat", "--into", "f.txt"], ".csv"),
    ],
)
def test_what_cannot_be_taken_is_refused(ran: Ran, words: list[str], told: str) -> None:
    answer = call("advice", ran.run, *words)
    assert answer.status == 2 and told in answer.err


def test_no_run_no_advice_and_damaged_advice_say_what_to_do(ran: Ran, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder of a run"):
        read_advice(tmp_path)
    shutil.copytree(ran.run, tmp_path / "run")
    path = tmp_path / "run/advice/advice.json"
    path.write_bytes(sealed({"records": []}))
    with pytest.raises(StoreError, match="another version"):
        read_advice(tmp_path / "run")
    path.unlink()
    with pytest.raises(StoreError, match="there is no advice"):
        read_advice(tmp_path / "run")


def test_a_file_that_is_no_file_of_corrections_is_left_alone(
    ran: Ran, tmp_path: Path, advice: Advice
) -> None:
    (tmp_path / "mine.csv").write_text("my,own\n1,2\n")
    with pytest.raises(UsageError, match="item_id"):
        take(advice, ["flat"], tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "my,own\n1,2\n"


def test_suggestions_are_the_runs_pictures_without_a_label(ran: Ran, tmp_path: Path) -> None:
    found = done(
        "suggest", ran.run, "--csv", tmp_path / "one.csv", "--sheet", tmp_path / "one.png", "-n", 2, "--json"
    ).json
    assert found["n_candidates"] == 4 and len(found["pictures"]) == 2
    assert found["head"] and all(len(one["answers"]) == 2 for one in found["pictures"])
    doubts = [one["doubt"] for one in found["pictures"]]
    assert doubts == sorted(doubts, reverse=True)
    rows = read_corrections(tmp_path / "one.csv")
    assert [(row.item_id, row.do, row.column) for row in rows] == [
        (one["item_id"], "", "label") for one in found["pictures"]
    ]
    # The next batch has others, and never both of two that are alike.
    then = done("suggest", ran.run, "--done", tmp_path / "one.csv", "--json").json
    both = [one["item_id"] for one in (*found["pictures"], *then["pictures"])]
    assert len(both) == len(set(both)) and then["n_done"] == 2
    assert len({NEW[0], NEW[3]} & {one["item_id"] for one in found["pictures"]}) <= 1
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
    assert "to label first" in done("suggest", ran.run).out


def test_suggestions_of_new_pictures_have_features_made_as_the_runs(ran: Ran, tmp_path: Path) -> None:
    for number in range(6):
        cli_world.picture((90, 40 * number, 120), 50 + number).save(tmp_path / f"{number}.png")
    shutil.copy(ran.root / "pictures/can/05.png", tmp_path / "labelled.png")
    found = done(
        "suggest", ran.run, "--folder", tmp_path, "-n", 4, "--between", "can", "--between", "cup", "--json"
    ).json
    assert found["n_candidates"] == 7 and len(found["pictures"]) == 4
    assert all(Path(one["path"]).is_file() for one in found["pictures"])
    # What the run has with a label already teaches nothing.
    assert "labelled.png" not in {one["item_id"] for one in found["pictures"]}


def test_features_of_other_pictures_suggest_nothing(ran: Ran, tmp_path: Path) -> None:
    """New items under the names of the run's, of which one shows something else."""
    shutil.copytree(ran.root / "pictures", tmp_path / "new")
    cli_world.picture((9, 99, 199), 77).save(tmp_path / "new" / NEW[1])
    done("items", "--folder", tmp_path / "new", "--out", tmp_path / "items", status=3)
    (view,) = (ran.run / "views").glob("*.h5")
    told = call("suggest", ran.run, "--items", tmp_path / "items", "--features", view)
    assert told.status == 1 and "saw other pictures than" in told.err and repr(NEW[1]) in told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--items", "x"], "--items ITEMS and --features VIEW go together"),
        (["--folder", "x", "--items", "y", "--features", "z"], "name new pictures once"),
        (["--between", "can"], "takes two classes"),
        (["--between", "can", "--between", "cat"], "no class 'cat'"),
        (["--labels", "race"], "no column 'race'"),
        (["--backbone", "other"], "no features of 'other'"),
        (["--csv", "x.txt"], "--csv wants a file"),
        (["--folder", "nowhere"], "nowhere"),
    ],
)
def test_suggestions_that_cannot_be_made_are_refused(ran: Ran, words: list[str], told: str) -> None:
    answer = call("suggest", ran.run, *words)
    assert answer.status in (1, 2) and told in answer.err


def test_all_done_is_said(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "done.csv").write_text("item_id,do\n" + "".join(f"{name},\n" for name in NEW))
    answer = call("suggest", ran.run, "--done", tmp_path / "done.csv")
    assert answer.status == 1 and "4 of them in earlier batches" in answer.err


def test_commands_name_what_the_run_was_made_from() -> None:
    data = {
        "adapter": "coco",
        "options": {
            "annotations": Path("my data/a.json"),
            "images": Path("i"),
            "treat": {},
            "crop": {"keep_crowds": True},
        },
        "corrections": (Path("old.csv"),),
    }
    acting = Acting(
        Path("runs/x-3"),
        data,
        {"m": {"spec": "timm:m"}},
        {"g": {"strategy": "group", "seed": 5}},
        ("kind",),
        False,
    )
    assert acting.again == (
        "deponij run --coco 'my data/a.json' --images i --keep-crowds --backbone timm:m --labels kind --split group "
        "--seed 5 --out runs/x-4 --corrections old.csv --corrections corrections.csv",
        "deponij compare runs/x-3 runs/x-4",
    )
    tuned = replace(
        acting,
        backbones={"m": {"spec": "timm:m"}, "m-norms": None},
        finetune={"m-norms": {"backbone": "m", "recipe": "norms"}},
    )
    assert "--backbone timm:m --tune norms --labels kind" in tuned.again[0]
    assert "m-norms" not in tuned.again[0]
    more = Acting(
        Path("r"),
        {},
        {},
        {"s": {"strategy": "random", "fractions": (0.6, 0.2, 0.2)}},
        ("label",),
        False,
        {"precision": "bf16"},
    )
    assert "--precision bf16 --split random --fractions 0.6 0.2 0.2 --out r-2" in more.again[0]
    several = Acting(
        Path("r"),
        {
            "adapter": "listed",
            "options": {"table": "t.csv", "label_separator": "|", "label_columns": ("a", "b")},
        },
        {"mine": {"given": "v.npy", "ids": "ids.txt"}, "m": {"spec": "m"}},
        {},
        (),
        False,
        label_sets=("tags",),
        classes=("a cup", "can"),
    )
    assert several.again[0] == (
        "deponij run --table t.csv --label-separator '|' --label-columns a,b --embeddings v.npy --backbone m --ids ids.txt "
        "--labels tags --classes 'a cup, can' --out r-2 --corrections corrections.csv"
    )
    whole = Acting(
        Path("r"), {"adapter": "coco", "options": {"annotations": "a.json", "whole": True}}, {}, {}, (), False
    )
    assert " --coco a.json --whole " in whole.again[0]
    vectors = {"adapter": "unpictured", "options": {"table": "v.npy", "has_vectors": True}}
    assert "--table" not in Acting(Path("r"), vectors, {"v": {"given": "v.npy"}}, {}, (), False).again[0]
    under_dvc = Acting(Path("runs/p"), {"root": "data/mine", "adapter": "folder"}, {}, {}, ("label",), True)
    assert under_dvc.take("flat") == "deponij advice runs/p --take flat --into data/mine/corrections.csv"
    assert under_dvc.again[0] == "dvc exp run -S '++data.corrections=[data/mine/corrections.csv]'"


def test_numbers_in_json_are_plain(ran: Ran) -> None:
    assert isinstance(json.loads(done("advice", ran.run, "--json").out)["n_items"], int)
    assert np.isfinite([one["doubt"] for one in done("suggest", ran.run, "--json").json["pictures"]]).all()
