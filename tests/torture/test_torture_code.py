"""Nothing that is loaded can run code: checkpoints, model folders, cards, params and arrays that try to are refused.

What Python is asked to do while one is read is watched (audit events), and each would leave a file if it were run.
"""

import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from learning_world import DIM, learned, make_world
from ledger import Ledger, Row
from test_dvc_repro import ROOT

from deponij.pipeline.backbones import load
from deponij.pipeline.given.files import read_given
from deponij.pipeline.heads.registry import load_head
from deponij.project.frame.settings import read_yaml
from deponij.store.bundle import MANIFEST
from deponij.store.errors import DeponijError
from deponij.store.sealed import sealed, sha256_of, unsealed

SECTION = "Code in what is loaded"
# What loading has no business to do.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork", "webbrowser.open")
_watch: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch and event in FORBIDDEN:
        _watch[-1].append(f"{event} {arguments}")


sys.addaudithook(_hook)


class Evil:
    """Leaves a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sign,)


def checkpoint(root: Path, sign: Path) -> object:
    folder = tiny_models.open_clip_vit(root / "clip")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil(sign)}))
    return load(str(folder))


def torch_checkpoint(root: Path, sign: Path) -> object:
    folder = tiny_models.dinov2(root / "dino")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save({"a": torch.zeros(2), "b": Evil(sign)}, folder / "pytorch_model.bin")
    return load(str(folder))


def remote_code(root: Path, sign: Path) -> object:
    """As the hub's models bring their own classes with `trust_remote_code`."""
    folder = tiny_models.dinov2(root / "dino")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.EvilConfig"},
        "trust_remote_code": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(sign)!r}, 'w')\n")
    return load(str(folder)).description


def card(root: Path, sign: Path) -> object:
    """A head of a class that the card names, with a manifest that fits."""
    head = root / "head"
    learned(make_world(root / "world"), "logistic", head)
    document = json.loads((head / "head.json").read_text())
    document |= {"head": "os:system", "kind": "os:system"}
    data = json.dumps(document).encode()
    (head / "head.json").write_bytes(data)
    listed = unsealed((head / MANIFEST).read_bytes())
    listed["files"]["head.json"] = {"size_bytes": len(data), "sha256": sha256_of(data)}
    (head / MANIFEST).write_bytes(sealed(listed))
    return load_head(head).decision_function(np.zeros((1, DIM)))


def params(root: Path, sign: Path) -> object:
    (root / "params.yaml").write_text(f"profile: !!python/object/apply:pathlib.Path.touch [{str(sign)!r}]\n")
    return read_yaml(root / "params.yaml")


def arrays(root: Path, sign: Path) -> object:
    np.save(root / "x.npy", np.array([Evil(sign)], dtype=object), allow_pickle=True)
    return read_given(root / "x.npy")


def archive(root: Path, sign: Path) -> object:
    np.savez(root / "x.npz", embedding=np.array([Evil(sign)], dtype=object), ids=np.array(["a"]))
    return read_given(root / "x.npz")


# What is tried, and whether it can be read for all that (its code being no part of what is read).
TRIES: dict[str, tuple[Callable[[Path, Path], object], bool]] = {
    "a pickled checkpoint": (checkpoint, False),
    "a checkpoint of torch": (torch_checkpoint, False),
    "a model with code of its own": (remote_code, True),
    "a card that names a function": (card, False),
    "params with a tag of Python": (params, False),
    "an array of objects": (arrays, False),
    "an archive of objects": (archive, False),
}


@pytest.fixture(scope="module")
def row(ledger: Ledger) -> Iterator[Row]:
    yield ledger.row(SECTION, "checkpoints, model folders, cards, params, arrays")


@pytest.mark.parametrize("name", TRIES)
def test_no_code_is_run(name: str, tmp_path: Path, row: Row) -> None:
    work, can_be_read = TRIES[name]
    sign = tmp_path / "it was run"
    done: list[str] = []
    _watch.append(done)
    try:
        work(tmp_path, sign)
        outcome = "harmless"
    except DeponijError as error:
        assert str(error)
        outcome = "detected"
    finally:
        _watch.pop()
    is_right = not sign.exists() and (outcome == "harmless") <= can_be_read
    row.add(outcome if is_right else "wrong")
    assert not sign.exists(), "its code was run"
    assert is_right, f"{name} was read"
    assert done == [], done


def test_a_pickle_that_is_loaded_would_be_seen(tmp_path: Path) -> None:
    """The sign is one: whoever does unpickle it leaves it."""
    pickle.loads(pickle.dumps(Evil(tmp_path / "it was run")))
    assert (tmp_path / "it was run").exists()


def test_nowhere_is_code_allowed_to_come_in() -> None:
    """Beside pickles (`tests/store/test_damage.py`): YAML with tags, code from the hub, texts that are evaluated."""
    forbidden = (
        r"yaml\.(load|load_all|full_load|unsafe_load)\(",
        r"trust_remote_code\s*=\s*True|[\"']trust_remote_code[\"']\s*:\s*True",
        r"(?<![.\w])(eval|exec)\(",
        r"shell\s*=\s*True|os\.(system|popen)\(",
    )
    rooms = ("store", "pipeline", "sample", "project", "stages", "services", "commands")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 200
    found = [f"{path}: {one}" for path in sources for one in forbidden if re.search(one, path.read_text())]
    assert found == []
