"""Symbolic links of data sets: into DVC's own cache, as DVC makes them, and nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest
from coco_made import annotation, document, noise, write

from deponij.pipeline.data.adapters.folder import FolderParams, FolderSource
from deponij.pipeline.data.adapters.instances import CocoParams, CocoSource
from deponij.pipeline.data.inside import Links


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project whose cache is linked to, without anything of this machine's own settings."""
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    root = tmp_path / "project"
    root.mkdir()
    settings(root, "DVC_GLOBAL_CONFIG_DIR/config", "type = symlink")
    dvc(root, "init", "--no-scm", "-q")
    return root


def settings(root: Path, file: str, *lines: str) -> None:
    """A file of DVC's settings beside the project, as `dvc config` writes it."""
    (root.parent / file).write_text("\n    ".join(("[cache]", *lines)) + "\n")


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


def failures(folder: Path) -> dict[str, str | None]:
    return {item.item_id: item.failure for item in FolderSource(FolderParams(folder=folder)).items(workers=0)}


def put(root: Path) -> None:
    for seed, name in enumerate(("cat/1.png", "dog/2.png")):
        (root / name).parent.mkdir(parents=True)
        noise(12, 10, seed).save(root / name)


@pytest.mark.parametrize("where", [None, "../elsewhere", "local", "user"])
def test_pictures_in_dvcs_cache_are_read(project: Path, where: str | None) -> None:
    if where == "user":
        cache = project.parent / "of_user"
        settings(project, "DVC_GLOBAL_CONFIG_DIR/config", "type = symlink", f"dir = {cache}")
    elif where == "local":
        settings(project, "project/.dvc/config.local", f"dir = {project.parent / 'of_project'}")
    elif where is not None:
        # Relative to the file that names it, as DVC writes it.
        dvc(project, "cache", "dir", where)
    pictures = project / "data" / "pictures"
    put(pictures)
    dvc(project, "add", "-q", "data/pictures")
    assert all(path.is_symlink() for path in pictures.rglob("*.png"))
    assert failures(pictures) == {"cat/1.png": None, "dog/2.png": None}
    path = write(project, document([annotation()], [{"id": 1, "file_name": "cat/1.png"}]))
    (item,) = CocoSource(CocoParams(annotations=path, images=pictures)).items(workers=0)
    assert item.failure is None


def test_other_files_below_the_cache_are_refused(project: Path) -> None:
    pictures, cache = project / "pictures", project / ".dvc" / "cache"
    put(pictures)
    # A stranger's project may name any folder as its cache: what DVC did not put there is not read.
    (cache / "files").mkdir(parents=True)
    noise(12, 10).save(cache / "files" / "private.png")
    (pictures / "cat" / "private.png").symlink_to(cache / "files" / "private.png")
    # Named like the start of what DVC puts there.
    below = cache / "files" / "md5" / "ab" / ("0" * 30)
    below.mkdir(parents=True)
    noise(12, 10).save(below / "below.png")
    (pictures / "cat" / "below.png").symlink_to(below / "below.png")
    (pictures / "cat" / "config.png").symlink_to(project / ".dvc" / "config")
    found = failures(pictures)
    assert {name for name, failure in found.items() if failure is None} == {"cat/1.png", "dog/2.png"}
    assert all(
        "leaves the data set's folder" in str(found[f"cat/{name}.png"])
        for name in ("private", "below", "config")
    )


def test_a_cache_is_of_the_nearest_project(tmp_path: Path, project: Path) -> None:
    inner = project / "inner"
    inner.mkdir()
    dvc(inner, "init", "--no-scm", "-q")
    assert Links.of(inner).caches == ((inner / ".dvc" / "cache").resolve(),)
    assert Links.of(project).caches == ((project / ".dvc" / "cache").resolve(),)
    (tmp_path / "none").mkdir()
    assert Links.of(tmp_path / "none").caches == ()


def test_a_damaged_config_is_no_error(project: Path) -> None:
    (project / ".dvc" / "config").write_text("nonsense\n= [")
    put(project / "pictures")
    assert failures(project / "pictures") == {"cat/1.png": None, "dog/2.png": None}
