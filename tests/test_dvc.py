"""dvc.yaml tells the truth: it has the stages of the list, and each one's deps, params and outs are what its code has."""

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
import tiny_models
import yaml
from pydantic import BaseModel

from deponij.pipeline.data.adapters.registry import source_class
from deponij.project.frame.lacking import lack_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, known_sections, load
from deponij.stages.registry import STAGES as LISTED

# Of networkx, below DVC.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROOT = imports.ROOT
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
# Facts about the machine, which stages write and DVC does not keep.
MACHINE = ("runs/tiny/timings", "runs/tiny/run.json")
# What these bring out costs hours; the frame that every stage stands on cannot change a feature.
COSTLY = dict.fromkeys(
    ("extract", "extract_dense", "decoders", "finetune", "extract_tuned"), ("project/frame/",)
)
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
classes: []
extract: {decode: full}
texts: {templates: [name], captions: caption}
heads:
  kinds:
    zero-shot: {}
    logistic: {max_iter: 20, cs: [0.1]}
    knn: {ks: [3, 9]}
    wise-ft: {max_iter: 20}
  per_class: [1]
  tries: 2
tables: {seeds: 2, candidates: [0.01], epochs: 2}
retrieval: {n_examples: 1}
report: {n_samples: 2}
scenes: {root: data/tiny}
finetune: {}
"""
# Whole photographs of the same, with their outlines as label maps.
SCENES = """
scenes:
  adapter: coco-masks
  root: data/tiny
  options: {annotations: data/tiny/annotations.json, images: data/tiny/images, classes: supercategory}
  split: {strategy: random, fractions: [0.5, 0.25, 0.25]}
patch_tokens:
  words: {flip: true}
dense:
  words: {spec: models/words, kind: dense@1, flip: true}
decoders:
  methods: {linear: {training: {epochs: 1}}, lseg: {training: {epochs: 1}}}
"""
# A model of a real family, for the made-up one has no format to be written in.
REAL = "  real: {spec: models/real}\n"
TUNED = """
finetune:
  real-norms: {backbone: real, recipe: norms, training: {epochs: 1}}
"""


def definition(name: str) -> dict[str, Any]:
    """A stage's body, whether it stands for one stage or for each of something."""
    return STAGES[name].get("do", STAGES[name])


def params_model(name: str) -> type[BaseModel]:
    model: type[BaseModel] = importlib.import_module(f"deponij.stages.{name}").Params
    return model


def is_code(dep: str) -> bool:
    return Path(dep).parts[0] in imports.ROOMS


def code_files(deps: list[str]) -> set[str]:
    """Python files that dependencies on code name, folders spelled out."""
    found = set()
    for dep in deps:
        path = ROOT / dep
        if is_code(dep):
            assert path.exists(), f"{dep} is no file of the project"
            found |= {p.relative_to(ROOT).as_posix() for p in path.rglob("*.py")} if path.is_dir() else {dep}
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_and_nothing_else_is_run(name: str) -> None:
    assert re.fullmatch(rf"python -m deponij\.stages\.{name}( \$\{{key\}})?", definition(name)["cmd"])


def test_the_stages_are_those_of_the_list() -> None:
    each = {name: body["foreach"].strip("${}") for name, body in STAGES.items() if "foreach" in body}
    assert {stage.name: stage.over for stage in LISTED} == {name: each.get(name) for name in STAGES}
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "registry"} == set(STAGES)
    assert (ROOT / "stages" / "__init__.py").read_text() == ""


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_cover_the_import_closure(name: str) -> None:
    closure = {p.relative_to(ROOT).as_posix() for p in imports.closure(ROOT / "stages" / f"{name}.py")}
    initial = {
        path
        for path in closure
        if path in ("pipeline/__init__.py", "project/__init__.py", "sample/__init__.py")
    }
    lacking = {
        path
        for path in closure - initial - code_files(definition(name)["deps"])
        if not path.startswith(COSTLY.get(name, ()) or "\0") and not path.startswith("stages/__init__")
    }
    assert lacking == set(), "an edit of these would rerun nothing"


@pytest.mark.parametrize("name", STAGES)
def test_no_dependency_on_code_is_for_nothing(name: str) -> None:
    """A room may be wider than what is imported of it, but something of it must be."""
    closure = {p.relative_to(ROOT).as_posix() for p in imports.closure(ROOT / "stages" / f"{name}.py")}
    for dep in definition(name)["deps"]:
        if is_code(dep) and dep not in ("sample/weights",):
            assert closure & code_files([dep]), f"{name} imports nothing of {dep}"


def test_what_no_stage_reads_is_ignored_by_dvc() -> None:
    ignored = [line for line in (ROOT / ".dvcignore").read_text().splitlines() if (ROOT / line).is_dir()]
    assert "store/upkeep" in ignored
    for name in STAGES:
        closure = imports.closure(ROOT / "stages" / f"{name}.py")
        assert not [p for p in closure for room in ignored if p.is_relative_to(ROOT / room)]


def test_the_pipeline_fits_on_a_few_screens() -> None:
    assert len((ROOT / "dvc.yaml").read_bytes()) <= 14 * 1024
    assert len((ROOT / "dvc.lock").read_bytes()) <= 60 * 1024


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_that_the_stage_reads(name: str) -> None:
    declared = {entry.partition(".")[0] for entry in definition(name)["params"]}
    # Where a stage's files lie follows from the profile; it may say so.
    assert declared - {"profile"} == set(params_model(name).model_fields) - {"profile"}


def test_known_sections_are_those_that_somebody_reads() -> None:
    read = {section for name in STAGES for section in params_model(name).model_fields}
    interpolated = re.findall(r"\$\{(\w+)[.}]", (ROOT / "dvc.yaml").read_text())
    assert set(known_sections()) == read | set(interpolated) - {"key", "item"}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_passes_every_stage(path: Path) -> None:
    for name in STAGES:
        load(params_model(name), path)
    values = yaml.safe_load(path.read_text())
    assert set(values) == set(known_sections())
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

    def __init__(self, root: Path, params: str = TINY) -> None:
        from dvc.repo import Repo

        self.root = root
        self.params = params
        self.made: dict[str, set[str]] = {}
        for model in ("words", "mute"):
            fake_backbone.make(root / "models" / model, has_text=model == "words")
        if "models/real" in params:
            tiny_models.timm_resnet(root / "models" / "real")
        (root / "params.yaml").write_text(params)
        (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        repo = Repo.init(str(root), no_scm=True)
        self.stages = {stage.name: stage for stage in repo.index.stages}
        self.order = [stage.name for stage in _sorted(repo.index)]
        repo.close()

    def data_deps(self, name: str) -> list[str]:
        """Dependencies that are no code; interpolated as DVC does it."""
        deps = [dep.def_path for dep in self.stages[name].deps]
        return [dep for dep in deps if not is_code(dep) and dep != "params.yaml"]

    def run(self, name: str, alone: Path, without: str | None = None) -> None:
        """Run a stage as its command does, in a folder of its own."""
        (alone / "params.yaml").write_text(self.params)
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
            assert (alone / out).exists(), f"{name} lacks {out}"
            copy(alone / out, self.root / out)

    def is_idle(self, name: str) -> bool:
        """Whether the profile names nothing that the stage could work on."""
        model = params_model(name.partition("@")[0])
        given = yaml.safe_load(self.params)
        return bool(lack_of(model(**{key: given[key] for key in model.model_fields if key in given})))

    def outs(self, name: str) -> list[str]:
        return [out.def_path for out in self.stages[name].outs]


def _sorted(index: Any) -> Iterator[Any]:
    """Stages so that what one needs comes before it."""
    from networkx import dfs_postorder_nodes

    return iter(dfs_postorder_nodes(index.graph))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Every stage run in order, each in a folder that holds its dependencies alone; what it made is kept."""
    params = TINY.replace("classes: []", "classes: [Can, Bottle]")
    params = params.replace("scenes: {root: data/tiny}\n", SCENES.lstrip())
    params = params.replace("finetune: {}\n", TUNED.lstrip()).replace(
        "text_backbones", f"{REAL}text_backbones"
    )
    yield from every_stage(tmp_path_factory, params)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The same where no column of labels is named, and no classes."""
    yield from every_stage(tmp_path_factory, TINY.replace("labels: [category, supercategory]", "labels: []"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The same where whole photographs have several labels each."""
    params = TINY.replace("labels: [category, supercategory]", "labels: []\nlabel_sets: [label]")
    params = params.replace("images: data/tiny/images}", "images: data/tiny/images, whole: true}")
    yield from every_stage(tmp_path_factory, params.replace(", captions: caption", ""))


def every_stage(tmp_path_factory: pytest.TempPathFactory, params: str) -> Iterator[Checkout]:
    with pytest.MonkeyPatch.context() as patch, fake_backbone.registered():
        patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DEPONIJ_DEPOT", str(tmp_path_factory.mktemp("depot")))
        patch.setenv("DEPONIJ_THREADS", "1")
        made = Checkout(tmp_path_factory.mktemp("checkout"), params)
        for name in made.order:
            made.run(name, tmp_path_factory.mktemp("alone"))
        yield made


def expected_names(values: dict[str, Any]) -> set[str]:
    """What DVC calls the stages of a profile."""
    keyed = [(stage.name, values[stage.over] if stage.over else [""]) for stage in LISTED]
    return {f"{name}@{key}" if key else name for name, keys in keyed for key in keys}


def files_below(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)


def test_stages_with_nothing_but_their_deps_make_their_outs_and_nothing_else(checkout: Checkout) -> None:
    assert set(checkout.made) == expected_names(
        {"prepare": ["sample"], "backbones": ["words", "mute", "real"], "finetune": ["real-norms"]}
    )
    for name, made in checkout.made.items():
        outs = [*checkout.outs(name), *MACHINE]
        for out in [*checkout.outs(name), *MACHINE[:1]] if not checkout.is_idle(name) else ():
            if out.startswith("runs/tiny/views/patch_tokens/") and not out.endswith(
                "/words"
            ):  # none are asked for
                continue
            assert any(Path(file).is_relative_to(out) for file in made), f"{name} lacks {out}"
        past = {file for file in made if not any(Path(file).is_relative_to(out) for out in outs)}
        assert past == set(), f"{name} writes past its outs"
    assert "words" in (checkout.root / "runs/tiny/report/page.html").read_text()


def test_without_labels_what_needs_them_leaves_its_outs_empty(unlabelled: Checkout) -> None:
    """DVC wants them there; all else is made, and the page shows it."""
    for stage in LISTED:
        if stage.needs and stage.over is None:
            made = map(Path, unlabelled.made[stage.name])
            made = [file for file in made if not any(file.is_relative_to(one) for one in MACHINE)]
            assert {file.parent.as_posix() for file in made} <= {"runs/tiny/metrics"}, stage.name
    page = (unlabelled.root / "runs/tiny/report/page.html").read_text()
    assert "Without labels" in page
    assert "Alike, and apart" in page


def test_several_labels_an_item(several: Checkout, tmp_path: Path) -> None:
    """The stage for them makes its outs of its deps alone, and needs each; the page shows them."""
    made, outs = several.made["multilabel"], several.outs("multilabel")
    assert all(any(Path(file).is_relative_to(out) for file in made) for out in outs)
    assert all(any(Path(file).is_relative_to(out) for out in (*outs, *MACHINE)) for file in made)
    # Few numbers for `dvc metrics`: of the chosen one, as the table tells it.
    told = json.loads((several.root / "runs/tiny/top1_percent.json").read_text())
    counted = json.loads((several.root / "runs/tiny/metrics/multilabel.json").read_text())
    scores = [one["one"]["label"]["test"]["map_macro"] for kind in counted.values() for one in kind.values()]
    assert set(told) == {"map"} and told["map"]["test"] in [round(100 * score, 1) for score in scores]
    for number, dep in enumerate(several.data_deps("multilabel")):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(SystemExit, match="1"):
            several.run("multilabel", tmp_path / str(number), without=dep)
    assert "Several labels an item" in (several.root / "runs/tiny/report/page.html").read_text()


def test_every_data_dependency_is_needed(checkout: Checkout, tmp_path: Path) -> None:
    """Without one of them a stage fails; a description of the weights only says that they have changed."""
    for name in checkout.order:
        for number, dep in enumerate(checkout.data_deps(name)):
            if "weights" not in Path(dep).parts and not checkout.is_idle(name):
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
    stage = importlib.import_module("deponij.stages.report")
    stage.main(load(stage.Params), Layout.of("tiny"), RunOptions(under_dvc=True))
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
    assert names == expected_names(values)


def test_a_profile_without_words_lacks_no_dependency(tmp_path: Path) -> None:
    """What no stage brings out would stop `dvc repro` before it begins."""
    from dvc.repo import Repo

    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(TINY.replace("text_backbones: [words]", "text_backbones: []"))
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = list(repo.index.stages)
    outs = [Path(out.def_path) for stage in stages for out in stage.outs]
    for stage in stages:
        for dep in stage.deps:
            path = Path(dep.def_path)
            is_made = any(out.is_relative_to(path) or path.is_relative_to(out) for out in outs)
            assert is_code(dep.def_path) or dep.def_path == "params.yaml" or is_made, dep.def_path
