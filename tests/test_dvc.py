"""dvc.yaml tells the truth: dependencies, parameters and outputs of each stage are what its code has."""

import importlib
import json
import re
import runpy
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_backbone
import imports
import pytest
import yaml
from pydantic import BaseModel

from deponij.pipeline.data.adapters.registry import source_class
from deponij.project.frame.settings import SECTIONS, load

# Of networkx, below DVC.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROOT = imports.ROOT
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
CODE = tuple(f"{name}/" for name in imports.PACKAGES)
# Facts about the machine, which every stage writes and DVC does not keep.
TIMINGS = "runs/tiny/timings"
OF_BACKBONES = ("extract", "probe", "knn", "retrieval", "curves", "mistakes", "map", "index")
OF_TEXT_BACKBONES = ("extract_text", "zero_shot", "blends", "text_retrieval")
TINY = """
profile: tiny
prepare:
  sample: {root: data/tiny, scenes: 12, seed: 5}
data:
  adapter: coco
  root: data/tiny
  options: {annotations: data/tiny/annotations.json, images: data/tiny/images}
splits:
  one: {strategy: random, fractions: [0.5, 0.25, 0.25]}
  two: {strategy: group, fractions: [0.5, 0.25, 0.25]}
labels: [category, supercategory]
backbones:
  words: {spec: models/words}
  mute: {spec: models/mute}
text_backbones: [words]
extract: {decode: full}
texts: {templates: [name], captions: caption}
probe: {max_iter: 20, cs: [0.1]}
zero_shot: {}
knn: {ks: [3, 9], per_class: [1], tries: 2}
blends: {max_iter: 20}
tables: {seeds: 2, candidates: [0.01], epochs: 2}
retrieval: {resamples: 100, n_examples: 1}
report: {n_samples: 2}
"""


def definition(name: str) -> dict[str, Any]:
    """A stage's body, whether it stands for one stage or for each of something."""
    return STAGES[name].get("do", STAGES[name])


def params_model(name: str) -> type[BaseModel]:
    model: type[BaseModel] = importlib.import_module(f"stages.{name}").Params
    return model


def code_files(deps: list[str]) -> set[str]:
    """Python files that dependencies on code name, folders spelled out."""
    found = set()
    for dep in deps:
        path = ROOT / dep
        if dep.startswith(CODE):
            assert path.exists(), f"{dep} is no file of the project"
            found |= {p.relative_to(ROOT).as_posix() for p in path.rglob("*.py")} if path.is_dir() else {dep}
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_and_nothing_else_is_run(name: str) -> None:
    assert re.fullmatch(rf"python -m stages\.{name}( \$\{{(key|item)\}})?", definition(name)["cmd"])


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_the_import_closure(name: str) -> None:
    closure = {p.relative_to(ROOT).as_posix() for p in imports.closure(ROOT / "stages" / f"{name}.py")}
    declared = code_files(definition(name)["deps"])
    assert closure - declared == set(), "an edit of these would rerun nothing"
    assert declared - closure == set(), "an edit of these would rerun the stage for nothing"


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_that_the_stage_reads(name: str) -> None:
    declared = {entry.partition(".")[0] for entry in definition(name)["params"]}
    # Where a stage's files lie follows from the profile; it may say so.
    assert declared - {"profile"} == set(params_model(name).model_fields) - {"profile"}


def test_known_sections_are_those_that_somebody_reads() -> None:
    read = {section for name in STAGES for section in params_model(name).model_fields}
    interpolated = re.findall(r"\$\{(\w+)[.}]", (ROOT / "dvc.yaml").read_text())
    assert set(SECTIONS) == read | set(interpolated) - {"key", "item"}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_passes_every_stage(path: Path) -> None:
    for name in STAGES:
        load(params_model(name), path)
    values = yaml.safe_load(path.read_text())
    assert set(values) == set(SECTIONS)
    assert values["profile"] == path.stem
    assert set(values["text_backbones"]) <= set(values["backbones"])
    source_class(values["data"]["adapter"]).Params.model_validate(values["data"]["options"])


def test_the_parameters_in_force_are_a_profile() -> None:
    assert (ROOT / "params.yaml").read_bytes() in {path.read_bytes() for path in PROFILES}


def test_adapters_read_only_below_the_folder_that_dvc_watches() -> None:
    for path in PROFILES:
        data = yaml.safe_load(path.read_text())["data"]
        paths = [
            v for k, v in data["options"].items() if k in ("root", "folder", "annotations", "images", "files")
        ]
        assert paths
        for one in paths:
            assert Path(one).is_relative_to(data["root"]), f"{path.stem}: {one} is not below {data['root']}"


# ------------------------------------------------------------------ by running every stage


class Checkout:
    """A folder with the project's dvc.yaml, a tiny profile and what the stages have made so far."""

    def __init__(self, root: Path) -> None:
        from dvc.repo import Repo

        self.root = root
        self.made: dict[str, set[str]] = {}
        for model in ("words", "mute"):
            fake_backbone.make(root / "models" / model, has_text=model == "words")
        (root / "params.yaml").write_text(TINY)
        (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        repo = Repo.init(str(root), no_scm=True)
        self.stages = {stage.name: stage for stage in repo.index.stages}
        self.order = [stage.name for stage in _sorted(repo.index)]
        repo.close()

    def data_deps(self, name: str) -> list[str]:
        """Dependencies that are no code; interpolated as DVC does it."""
        deps = [dep.def_path for dep in self.stages[name].deps]
        return [dep for dep in deps if not dep.startswith(CODE) and dep != "params.yaml"]

    def run(self, name: str, alone: Path, without: str | None = None) -> None:
        """Run a stage as its command does, in a folder of its own."""
        (alone / "params.yaml").write_text(TINY)
        for dep in {*self.data_deps(name), "models"} - {without}:
            copy(self.root / dep, alone / dep)
        before = files_below(alone)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of runpy: other tests have imported the module
            patch.chdir(alone)
            patch.setattr(sys, "argv", self.stages[name].cmd.split()[2:])
            runpy.run_module(sys.argv[0], run_name="__main__")
        self.made[name] = files_below(alone) - before
        for out in self.outs(name):
            copy(alone / out, self.root / out)

    def outs(self, name: str) -> list[str]:
        return [out.def_path for out in self.stages[name].outs]


def _sorted(index: Any) -> Iterator[Any]:
    """Stages so that what one needs comes before it."""
    from networkx import dfs_postorder_nodes

    return iter(dfs_postorder_nodes(index.graph))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Every stage run in order, each in a folder that holds its dependencies alone; what it made is kept."""
    with pytest.MonkeyPatch.context() as patch, fake_backbone.registered():
        patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DEPONIJ_DEPOT", str(tmp_path_factory.mktemp("depot")))
        patch.setenv("DEPONIJ_THREADS", "1")
        made = Checkout(tmp_path_factory.mktemp("checkout"))
        for name in made.order:
            made.run(name, tmp_path_factory.mktemp("alone"))
        yield made


def files_below(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)


def test_stages_with_nothing_but_their_deps_make_their_outs_and_nothing_else(checkout: Checkout) -> None:
    n_splits, n_backbones, n_with_text = 2, 2, 1
    n_single = len({"weights", "prepare", "items", "tables", "ensembles", "report"})
    n_each = n_backbones * len(OF_BACKBONES) + n_with_text * len(OF_TEXT_BACKBONES)
    assert len(checkout.made) == n_single + n_splits + n_each
    for name, made in checkout.made.items():
        outs = [*checkout.outs(name), TIMINGS]
        for out in outs:
            assert any(Path(file).is_relative_to(out) for file in made), f"{name} lacks {out}"
        past = {file for file in made if not any(Path(file).is_relative_to(out) for out in outs)}
        assert past == set(), f"{name} writes past its outs"
    assert "words" in (checkout.root / "runs/tiny/report/page.html").read_text()


def test_every_data_dependency_is_needed(checkout: Checkout, tmp_path: Path) -> None:
    """Without one of them a stage fails; a description of the weights only says that they have changed."""
    for name in checkout.order:
        for number, dep in enumerate(checkout.data_deps(name)):
            if "weights" not in Path(dep).parts:
                folder = tmp_path / f"{name}-{number}"
                folder.mkdir()
                with pytest.raises(SystemExit, match="1"):
                    checkout.run(name, folder, without=dep)


def test_a_backbone_that_has_left_the_profile_is_not_reported(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC deletes no outputs of stages that are gone."""
    shutil.copytree(checkout.root / "runs", tmp_path / "runs")
    (tmp_path / "params.yaml").write_text(TINY.replace("  mute: {spec: models/mute}\n", ""))
    monkeypatch.chdir(tmp_path)
    importlib.import_module("deponij.stages.report").main()
    rows = json.loads((tmp_path / "runs/tiny/report/results.json").read_text())
    assert {row["backbone"] for row in rows if not row["is_baseline"]} == {"words"}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_resolves_every_profile(path: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(path.read_text())
    values = yaml.safe_load(path.read_text())
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        names = {stage.name for stage in repo.index.stages}
    each = {"prepare": values["prepare"], "split": values["splits"]}
    each |= dict.fromkeys(OF_TEXT_BACKBONES, values["text_backbones"])
    each |= dict.fromkeys(OF_BACKBONES, values["backbones"])
    expected = {"weights", "items", "tables", "ensembles", "report"} | {
        f"{stage}@{key}" for stage, keys in each.items() for key in keys
    }
    assert names == expected


def test_a_profile_without_words_lacks_no_dependency(tmp_path: Path) -> None:
    """What no stage brings out would stop `dvc repro` before it begins."""
    from dvc.repo import Repo

    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(TINY.replace("text_backbones: [words]", "text_backbones: []"))
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = list(repo.index.stages)
    outs = [Path(out.def_path) for stage in stages for out in stage.outs]
    for stage in stages:
        assert not stage.name.startswith(OF_TEXT_BACKBONES)
        for dep in stage.deps:
            path = Path(dep.def_path)
            is_made = any(out.is_relative_to(path) or path.is_relative_to(out) for out in outs)
            assert dep.def_path.startswith(CODE) or dep.def_path == "params.yaml" or is_made, dep.def_path
