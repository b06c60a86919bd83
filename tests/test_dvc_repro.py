"""What `dvc repro` computes again, and what never: in a clone of this checkout, on a few scenes with one mini."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deponij.sample.painter import generate
from deponij.stages.registry import STAGES
from deponij.store.depot import FeatureStore
from deponij.store.items import Items
from deponij.store.view import View

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parent.parent
BACKBONE = "mini-openclip"
DATA = "mine"
PROFILE = {
    "profile": "mine",
    "prepare": {},
    "data": {
        "adapter": "coco",
        "root": DATA,
        "options": {
            "annotations": f"{DATA}/annotations.json",
            "images": f"{DATA}/images",
            "crop": {"margin": 0.0},
        },
    },
    "splits": {"random": {"strategy": "random", "labels": "category", "fractions": [0.5, 0.25, 0.25]}},
    "labels": ["category"],
    "label_sets": [],
    "classes": [],
    "backbones": {BACKBONE: {}},
    "text_backbones": [BACKBONE],
    "extract": {"kind": "embedding"},
    "texts": {"templates": ["name"]},
    "heads": {
        "kinds": {"zero-shot": {}, "logistic": {"max_iter": 30, "cs": [0.1]}, "knn": {}},
        "per_class": [1],
        "tries": 1,
    },
    "tables": {"seeds": 1, "candidates": [0.01], "epochs": 1},
    "ensembles": {},
    "curves": {"tries": 1},
    "mistakes": {},
    "map": {},
    "likeness": {},
    "multilabel": {},
    "advice": {},
    "patch_tokens": {},
    "scenes": {"root": DATA},
    "dense": {},
    "decoders": {},
    "finetune": {},
    "index": {},
    "retrieval": {"n_hits": 4},
    "report": {"n_samples": 2},
}
EXTRACT = f"extract@{BACKBONE}"
BEFORE = {"weights", "items", "split", "extract_text"}
# These read no items; the profile has none, so that they only leave empty outputs, once.
OF_SCENES = {"scenes", "extract_dense", "decoders"}
BEHIND = {stage.name for stage in STAGES if stage.over is None} - BEFORE - OF_SCENES
ALL = BEFORE | {EXTRACT} | BEHIND | OF_SCENES
# A file in each room that cannot change a feature.
ELSEWHERE = (
    *(
        "store/upkeep/export.py",
        "project/learning/results.py",
        "project/report/runs.py",
        "project/tables/cells.py",
    ),
    *(
        "project/frame/console.py",
        "project/indexes.py",
        "pipeline/heads/knn.py",
        "pipeline/metrics/intervals.py",
    ),
    *(
        "pipeline/reports/page.py",
        "pipeline/retrieval/flat.py",
        "pipeline/data/crops.py",
        "sample/painter/scene.py",
    ),
    *("services/run.py", "commands/whole.py", "stages/heads.py", "stages/registry.py"),
)


@dataclass
class Clone:
    """A git clone with its own DVC cache, and a depot beside it."""

    root: Path
    depot: Path

    def call(self, *command: str) -> str:
        """Run a command; standard output and error together."""
        environment = dict(os.environ)
        for name in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{name}_NAME": "A Tester", f"GIT_{name}_EMAIL": "tester@example.org"}
        environment |= {"DEPONIJ_DEPOT": str(self.depot), "DEPONIJ_CACHE": str(self.depot.parent / "cache")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["DVC_NO_ANALYTICS"] = "1"
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def repro(self, *options: str) -> set[str]:
        """`dvc repro`; the stages whose commands were run."""
        return set(re.findall(r"Running stage '([^']+)'", self.call("dvc", "repro", *options)))

    def commit(self, tag: str) -> None:
        self.call("git", "add", "-A")
        self.call("git", "commit", "-q", "-m", tag)
        self.call("git", "tag", tag)

    def change(self, section: str, **values: object) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params[section] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def set_margin(self, margin: float) -> None:
        options = PROFILE["data"]["options"] | {"crop": {"margin": margin}}  # type: ignore[index]
        self.change("data", options=options)

    def rows(self) -> Counter[str]:
        """Rows of pictures in the depot by key; a key that was computed twice counts twice."""
        sidecars = FeatureStore(self.depot).sidecars
        return Counter(key for s in sidecars if s.identity.kind == "embedding" for key in s.keys)

    @property
    def view(self) -> Path:
        return self.root / "runs" / "mine" / "views" / f"{BACKBONE}.h5"

    def keys(self) -> set[str]:
        """Keys of the items that there are now."""
        return {key for key in Items(self.root / "runs" / "mine" / "items").keys if key is not None}


def copy_working_tree(target: Path) -> None:
    """Tracked and new files as they are now, nothing that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name != "dvc.lock" and ((ROOT / name).is_file() or (ROOT / name).is_symlink()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """After a first `dvc repro`, committed as `first`. The tests below go on from each other, in order."""
    folder = tmp_path_factory.mktemp("repro")
    made = Clone(folder / "clone", folder / "depot")
    made.root.mkdir()
    copy_working_tree(made.root)
    (made.root / "params.yaml").write_text(yaml.safe_dump(PROFILE, sort_keys=False))
    generate(made.root / DATA, scenes=10, seed=3)
    made.call("git", "init", "-q")
    assert made.repro() == ALL
    assert set(made.rows()) == made.keys()
    assert set(made.rows().values()) == {1}
    made.commit("first")
    yield made


def test_nothing_changed_nothing_runs_and_git_is_clean(clone: Clone) -> None:
    assert clone.repro() == set()
    assert clone.call("git", "status", "--porcelain") == ""


def touched(clone: Clone) -> set[str]:
    """The stages that DVC would run after an edit in every room that cannot change a feature; the edit is undone."""
    kept = {name: (clone.root / name).read_bytes() for name in ELSEWHERE}
    for name, content in kept.items():
        (clone.root / name).write_bytes(content + b"\n# An edit.\n")
    status = json.loads(clone.call("dvc", "status", "--json"))
    for name, content in kept.items():
        (clone.root / name).write_bytes(content)
    return set(status)


def test_edits_elsewhere_leave_the_extraction_alone(clone: Clone) -> None:
    changed = touched(clone)
    assert {"heads", "items", "report", "map"} <= changed
    assert not changed & {EXTRACT}
    assert clone.repro() == set()


def test_what_no_stage_reads_reruns_nothing(clone: Clone) -> None:
    paths = [clone.root / name for name in ("store/upkeep/export.py", "services/run.py", "commands/whole.py")]
    kept = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_text("# An edit.")
    assert json.loads(clone.call("dvc", "status", "--json")) == {}
    for path, content in zip(paths, kept, strict=True):
        path.write_bytes(content)


def test_a_heads_parameter_runs_no_extraction(clone: Clone) -> None:
    before = clone.rows()
    clone.change("heads", tries=2)
    assert clone.repro() == {"heads", "ensembles", "advice", "report"}
    assert clone.rows() == before


def test_five_more_pictures_compute_their_crops_alone(clone: Clone) -> None:
    before, known = clone.rows(), clone.keys()
    generate(clone.root / DATA, scenes=15, seed=3)
    ran = clone.repro()
    added = clone.rows() - before
    assert {"items", EXTRACT} <= ran
    assert len(added) > 5
    assert added == Counter(clone.keys() - known)
    assert known < clone.keys()
    assert len(View(clone.view)) == len(Items(clone.root / "runs/mine/items"))
    clone.commit("second")


def test_another_margin_and_back_computes_nothing_on_the_way_back(clone: Clone) -> None:
    before, bytes_before = clone.rows(), clone.view.read_bytes()
    clone.set_margin(0.5)
    assert EXTRACT in clone.repro()
    wide = clone.rows()
    assert wide - before == Counter(clone.keys() - set(before))
    assert len(wide - before) > 50
    clone.set_margin(0.0)
    clone.repro()
    assert clone.rows() == wide
    # DVC has the view in its cache. Without that it is the depot that knows.
    assert clone.repro("--force", "--single-item", EXTRACT) == {EXTRACT}
    assert clone.rows() == wide
    assert clone.view.read_bytes() == bytes_before
    assert clone.repro() == set()


def test_relabelled_and_deleted_items_compute_nothing(clone: Clone) -> None:
    before, n_before = clone.rows(), len(View(clone.view))
    path = clone.root / DATA / "annotations.json"
    document = json.loads(path.read_text())
    categories = [category["id"] for category in document["categories"]]
    for annotation in document["annotations"][:6]:
        annotation["category_id"] = categories[
            (categories.index(annotation["category_id"]) + 1) % len(categories)
        ]
    del document["annotations"][-7:]
    path.write_text(json.dumps(document))
    assert {"items", EXTRACT} | BEHIND <= clone.repro()
    assert clone.rows() == before
    assert len(View(clone.view)) == n_before - 7
    clone.commit("third")


def test_an_older_commit_and_back_computes_nothing(clone: Clone) -> None:
    before, bytes_before = clone.rows(), clone.view.read_bytes()
    for tag, forced in (("first", True), ("third", False)):
        clone.call("git", "checkout", "-q", tag)
        clone.repro()
        if forced:
            assert clone.repro("--force", "--single-item", EXTRACT) == {EXTRACT}
        assert View(clone.view).keys.tolist() == Items(clone.root / "runs/mine/items").keys
        assert clone.call("git", "status", "--porcelain") == ""
    assert clone.rows() == before
    assert clone.view.read_bytes() == bytes_before


def test_a_second_clone_without_a_depot_runs_what_is_behind_extract(clone: Clone, tmp_path: Path) -> None:
    clone.call("dvc", "remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    clone.call("dvc", "push", "-q")
    clone.commit("shelf")
    clone.call("git", "clone", "-q", str(clone.root), str(tmp_path / "other"))
    other = Clone(tmp_path / "other", tmp_path / "no-depot")
    other.call("dvc", "pull", "-q")
    assert other.view.read_bytes() == clone.view.read_bytes()
    # Without depot and weights, too, an edit in another room is none of the extraction's.
    assert not touched(other) & {EXTRACT}
    changes = {
        "heads": {"tries": 3},
        "tables": {"seeds": 2},
        "curves": {"tries": 2},
        "mistakes": {"folds": 3},
        "map": {"iterations": 300},
        "index": {"seed": 1},
        "retrieval": {"n_hits": 6},
    }
    for section, values in changes.items():
        other.change(section, **values)
    # Nothing that these three read has changed.
    assert other.repro() == BEHIND - {"likeness", "multilabel", "answers"}
    assert (other.root / "runs/mine/report/page.html").is_file()
    assert not other.depot.exists()


def test_a_clone_without_the_pictures_keeps_the_items_that_it_pulled(clone: Clone, tmp_path: Path) -> None:
    """What fails for lack of them removes nothing, and everything behind can be made again."""
    clone.call("dvc", "remote", "add", "--force", "--default", "shelf", str(tmp_path / "shelf"))
    clone.call("dvc", "push", "-q")
    clone.commit("without-pictures")
    clone.call("git", "clone", "-q", str(clone.root), str(tmp_path / "other"))
    other = Clone(tmp_path / "other", tmp_path / "no-depot")
    other.call("dvc", "pull", "-q")
    shutil.rmtree(other.root / DATA)
    items = other.root / "runs/mine/items"
    before = {path.name: path.read_bytes() for path in items.iterdir()}
    assert "failed to reproduce 'items'" in other.call("bash", "-c", "! dvc repro")
    assert {path.name: path.read_bytes() for path in items.iterdir()} == before
    assert other.repro("--allow-missing") == set()
    other.change("heads", tries=4)
    assert other.repro("--allow-missing") == {"heads", "ensembles", "advice", "report"}
