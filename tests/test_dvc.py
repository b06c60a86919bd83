"""dvc.yaml tells the truth: dependencies, parameters and outputs of each stage are what its code has."""

import importlib
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_backbone
import imports
import pytest
import yaml
from pydantic import BaseModel

from pipeline.data.registry import source_class
from stages.settings import SECTIONS, load

ROOT = imports.ROOT
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
CODE = tuple(f"{name}/" for name in imports.PACKAGES)
# Facts about the machine, which every stage writes and DVC does not keep.
TIMINGS = "runs/tiny/timings"
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
texts: {templates: [name]}
probe: {max_iter: 20, cs: [0.1]}
zero_shot: {}
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
        paths = [v for k, v in data["options"].items() if k in ("root", "folder", "annotations", "images", "files")]
        assert paths
        for one in paths:
            assert Path(one).is_relative_to(data["root"]), f"{path.stem}: {one} is not below {data['root']}"


# ------------------------------------------------------------------ by running every stage


class Checkout:
    """A folder with the project's dvc.yaml, a tiny profile and what the stages have made so far."""

    def __init__(self, root: Path) -> None:
        from dvc.repo import Repo

        self.root = root
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

    def outs(self, name: str) -> list[str]:
        return [out.def_path for out in self.stages[name].outs]


def _sorted(index: Any) -> Iterator[Any]:
    """Stages so that what one needs comes before it."""
    from networkx import dfs_postorder_nodes

    return iter(dfs_postorder_nodes(index.graph))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Every stage run in order, each in a folder that holds its dependencies alone; what it made is kept."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("DEPONIJ_DEPOT", str(tmp_path_factory.mktemp("depot")))
    patch.setenv("DEPONIJ_THREADS", "1")
    with fake_backbone.registered():
        yield Checkout(tmp_path_factory.mktemp("checkout"))
    patch.undo()


def files_below(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def is_below(name: str, folders: list[str]) -> bool:
    return any(Path(name).is_relative_to(folder) for folder in folders)


def test_stages_read_their_deps_and_write_their_outs(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(checkout.order) == 2 + 1 + 1 + 2 + 2 + 1 + 2 + 1 + 1
    for name in checkout.order:
        alone = tmp_path_factory.mktemp("alone")
        (alone / "params.yaml").write_text(TINY)
        shutil.copytree(checkout.root / "models", alone / "models")
        for dep in checkout.data_deps(name):
            _copy(checkout.root / dep, alone / dep)
        before = files_below(alone)
        monkeypatch.chdir(alone)
        monkeypatch.setattr(sys, "argv", checkout.stages[name].cmd.split()[2:])
        module = sys.argv[0]
        runpy.run_module(module, run_name="__main__")
        made = {file for file in files_below(alone) - before if not is_below(file, [TIMINGS])}
        outs = checkout.outs(name)
        assert {file for file in made if not is_below(file, outs)} == set(), f"{name} writes past its outs"
        assert [out for out in outs if not (alone / out).exists()] == [], f"{name} lacks an out"
        assert list((alone / TIMINGS).iterdir()), f"{name} kept no time"
        for out in outs:
            _copy(alone / out, checkout.root / out)
    report = checkout.root / "runs/tiny/report/page.html"
    assert report.read_text().count("words") > 2


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def test_every_data_dependency_is_needed(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one of them a stage fails; a description of the weights only says that they have changed."""
    for name in checkout.order:
        for dep in checkout.data_deps(name):
            if "/weights/" in dep:
                continue
            alone = tmp_path / f"{name}-{Path(dep).name}".replace("@", "-")
            (alone).mkdir()
            (alone / "params.yaml").write_text(TINY)
            for other in {*checkout.data_deps(name), "models"} - {dep}:
                _copy(checkout.root / other, alone / other)
            monkeypatch.chdir(alone)
            monkeypatch.setattr(sys, "argv", checkout.stages[name].cmd.split()[2:])
            with pytest.raises(SystemExit, match="1"):
                runpy.run_module(sys.argv[0], run_name="__main__")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_resolves_every_profile(path: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(path.read_text())
    values = yaml.safe_load(path.read_text())
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        names = {stage.name for stage in repo.index.stages}
    each = {
        "prepare": values["prepare"],
        "split": values["splits"],
        "extract_text": values["text_backbones"],
        "zero_shot": values["text_backbones"],
    }
    expected = {"items", "report"} | {f"{stage}@{key}" for stage, keys in each.items() for key in keys}
    expected |= {f"{stage}@{key}" for stage in ("weights", "extract", "probe") for key in values["backbones"]}
    assert names == expected
