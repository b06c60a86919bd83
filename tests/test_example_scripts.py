"""The examples run as they stand, and what they add keeps the contracts of its registry."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cli_world
import numpy as np
import pytest
from cli_world import World, done
from sklearn.linear_model import Ridge as Reference

import deponij

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("world")) as made:
        yield made


def run(script: str, *words: object, cwd: Path, status: int = 0) -> str:
    """Standard output of an example, run as a file from somewhere else."""
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *(str(word) for word in words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DEPONIJ_THREADS": "1", "DEPONIJ_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout


def test_a_head_of_ones_own_is_fitted_by_the_command(world: World, tmp_path: Path) -> None:
    out = run("add_head.py", "fit", "--head", "ridge", *world.learning, "--out", "ridge", cwd=tmp_path)
    assert "ridge" in out
    assert (tmp_path / "ridge" / "head.safetensors").is_file()
    code = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import add_head; from pathlib import Path\n"
        "from deponij.pipeline.heads.registry import load_head\n"
        "print(load_head(Path('ridge')).kind)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "ridge\n"


def test_the_head_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from deponij.pipeline.heads import registry

    monkeypatch.syspath_prepend(EXAMPLES)
    try:
        import add_head  # type: ignore[import-not-found]

        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(40, 6)), np.array(["can", "cup", "lid"])[np.arange(40) % 3]
        head = add_head.Ridge(penalty=2.5).fit(X, y)
        reference = Reference(alpha=2.5).fit(X, np.eye(3)[np.arange(40) % 3])
        np.testing.assert_allclose(head.decision_function(X), reference.predict(X), atol=1e-6)
    finally:
        registry._HEADS.unregister("ridge")
        sys.modules.pop("add_head", None)


def test_the_head_keeps_the_contract_of_all_heads() -> None:
    # As a plugin the example is imported before the suite asks which heads there are.
    words = ["-q", "-p", "add_head", "-p", "no:cacheprovider", "tests/contracts/test_heads.py", "-k", "ridge"]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(EXAMPLES)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    assert int(process.stdout.rpartition(" passed")[0].split()[-1]) > 15


def test_a_backbone_of_ones_own_goes_into_the_store(world: World, tmp_path: Path) -> None:
    run("add_backbone.py", "make-colours", "colours", cwd=tmp_path)
    words = ["extract", "--items", world.items, "--backbone", "colours", "--out", "view.h5"]
    # 3: the world has a picture that cannot be read.
    run("add_backbone.py", *words, "--depot", "depot", cwd=tmp_path, status=3)
    view = deponij.View(tmp_path / "view.h5")
    assert view.embedding.shape == (3 * cli_world.N_PER_CLASS, 32)
    assert view.identity.backbone == "colours:32"
    # Classes of the world are told apart by colour, so neighbours are of one class.
    index = deponij.Index.of(view, deponij.Items(world.items))
    hits = index.search(index.vectors(["can/00.png"])[0], top=5)
    assert {hit.metadata["label"] for hit in hits} == {"can"}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `runs/sample` of two mini backbones on few scenes, a depot and some PICTURES."""
    root = tmp_path_factory.mktemp("small")
    cli_world.class_folders(root / "PICTURES")
    done("data", "sample", "--root", root / "sample", "--scenes", 24, "--seed", 3)
    source = ["--coco", root / "sample" / "annotations.json", "--images", root / "sample" / "images"]
    learned = ["--labels", "category", "--split", "group", "--out", root / "runs" / "sample"]
    backbones = ["--backbone", "mini-openclip", "--backbone", "mini-dinov2", "--depot", root / "depot"]
    done("run", *source, *learned, *backbones)
    return root


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs_on_a_small_run(small_run: Path) -> None:
    out = run("notebook.py", cwd=small_run)
    assert "logistic regression: 0." in out
    assert "Known: train, val, test" in out


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/learning.md", "docs/search.md"])
def test_the_python_of_the_documentation_runs(small_run: Path, page: str) -> None:
    for text in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        process = subprocess.run(
            [sys.executable, "-c", text],
            cwd=small_run,
            env=os.environ | {"PYTHONPATH": str(ROOT), "DEPONIJ_THREADS": "1", "DEPONIJ_DEVICE": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, f"{page}:\n{text}\n{process.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_examples_and_the_library_are_typed(tmp_path: Path) -> None:
    told = tmp_path / "told.py"
    told.write_text("import deponij\nreveal_type(deponij.open_run('runs/sample').examples().frame)\n")
    files = [*map(str, sorted(EXAMPLES.glob("*.py"))), str(told)]
    process = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=pyproject.toml", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    # Were the package not typed, all of it would be Any and nothing would be found.
    assert 'Revealed type is "def () -> ' in process.stdout
