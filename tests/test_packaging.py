"""What is built from the checkout: one import name, every file in it, and a command that works in any folder.

Built with the setuptools of this environment and nothing else, so no network is asked.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import cli_world
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "deponij"
NOT_BUILT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "data", "depot", "runs", "tests", "dvc.lock"
)


def run(*words: object, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    process = subprocess.run(
        [str(one) for one in words],
        cwd=cwd,
        # No PYTHONPATH: what is found must have been installed.
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, f"{words}\n{process.stdout}\n{process.stderr}"
    return process.stdout


def built(what: str, source: Path, out: Path) -> Path:
    """A distribution made from a source tree by the hook that every builder calls; `what`: wheel or sdist."""
    pytest.importorskip("setuptools", minversion="77", reason="no setuptools here to build with")
    code = f"from setuptools import build_meta; print(build_meta.build_{what}({str(out)!r}))"
    return out / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as git has it: building leaves traces beside the sources."""
    copy = tmp_path_factory.mktemp("source") / "checkout"

    def ignored(folder: str, names: list[str]) -> set[str]:
        # Only at the top are these other things than code.
        return NOT_BUILT(folder, names) if Path(folder) == ROOT else {"__pycache__"} & set(names)

    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", source, tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_the_wheel_has_one_name_and_every_file(wheel: Path) -> None:
    inside = contents(wheel)
    info = f"deponij-{metadata.version('deponij')}.dist-info"
    assert {name.partition("/")[0] for name in inside} == {"deponij", info}
    packed = {name for name in inside if name.startswith("deponij/")}
    # Links are followed: what lies in the rooms is what is packed, templates, pages and weights included.
    there = {
        (Path(folder, name).relative_to(ROOT)).as_posix()
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }
    assert packed == there
    assert {"deponij/py.typed", "deponij/pipeline/backbones/catalog.json"} <= packed
    assert not any("tests" in Path(name).parts for name in inside)
    scripts = inside[f"{info}/entry_points.txt"].decode()
    assert "deponij = deponij.cli:program" in scripts


def test_the_source_distribution_gives_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        # A link would lead out of what was unpacked.
        assert all(member.isfile() or member.isdir() for member in members)
        assert not any("tests" in Path(member.name).parts for member in members)
        archive.extractall(tmp_path, filter="data")
    again = built("wheel", next(tmp_path.glob("deponij-*")), tmp_path)
    assert contents(again) == contents(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel, and of this environment everything else."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no uv in PATH to install a wheel with")
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(uv, "venv", "--quiet", "--offline", "--python", sys.executable, folder, cwd=ROOT)
    python = folder / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel, cwd=ROOT)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=ROOT).strip())
    # A path in a .pth file is searched after the wheel, and its own .pth files (a checkout, say) are not read.
    (site / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody whose modules have the names of the rooms."""
    (tmp_path / "pipeline").mkdir()
    for name in ("store.py", "project.py", "cli.py", "sample.py", "pipeline/__init__.py"):
        (tmp_path / name).write_text("raise RuntimeError('somebody else’s module was imported')\n")
    return tmp_path


def test_the_installed_wheel_works_beside_modules_of_the_same_names(installed: Path, elsewhere: Path) -> None:
    where = run(installed, "-c", "import deponij; print(deponij.__file__)", cwd=elsewhere).strip()
    assert Path(where).is_relative_to(installed.parent.parent)
    deponij = installed.parent / "deponij"
    own = {"DEPONIJ_CACHE": str(elsewhere / "cache"), "DEPONIJ_THREADS": "1", "DEPONIJ_DEVICE": "cpu"}
    assert run(installed, "-m", "deponij.cli", "--version", cwd=elsewhere).startswith("deponij ")
    cli_world.class_folders(elsewhere / "pictures")
    (elsewhere / "pictures" / cli_world.TRUNCATED).unlink()
    learned = ("--split", "group", "--backbone", "mini-openclip", "--out", "runs/sample")
    assert "top-1" in run(deponij, "run", "--folder", "pictures", *learned, cwd=elsewhere, **own)
    assert (elsewhere / "runs" / "sample" / "report" / "page.html").is_file()
    # The notebook's lines ask for the label column of the sample.
    lines = (ROOT / "examples" / "notebook.py").read_text().replace("category", "label")
    (elsewhere / "notebook.py").write_text(lines)
    assert "logistic regression: " in run(installed, "notebook.py", cwd=elsewhere, **own)
