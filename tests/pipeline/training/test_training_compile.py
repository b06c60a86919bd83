"""torch.compile as an option of a training: the same but for rounding, under the same names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toy import PARAMS, Toy, same, weights

from deponij.pipeline.training import loop
from deponij.pipeline.training.checkpoint import read_checkpoint
from deponij.pipeline.training.identity import settings_of
from deponij.pipeline.training.loop import train
from deponij.pipeline.training.params import TrainingParams
from deponij.store.errors import UsageError

COMPILED = PARAMS.model_copy(update={"compile": True})
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)


class Traced(Toy):
    """Compiled by torch's tracer alone, which needs no C++ compiler."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.n_traced = 0
        in_place = self.model.compile

        def counted(graph: torch.fx.GraphModule, inputs: Any) -> Any:
            self.n_traced += 1
            return graph.forward

        self.model.compile = lambda: in_place(backend=counted)  # type: ignore[method-assign]


@pytest.fixture
def no_compiler_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "require_compiler", lambda device: None)


def test_it_is_no_part_of_the_identity() -> None:
    assert settings_of(Toy(), PARAMS) == settings_of(Toy(), COMPILED)
    assert settings_of(Toy(), PARAMS) != settings_of(Toy(), PARAMS.model_copy(update={"seed": 1}))
    assert not TrainingParams().compile


@pytest.mark.usefixtures("no_compiler_needed")
def test_traced_it_learns_the_same_under_the_same_names() -> None:
    plain, traced = Toy(), Traced()
    told, told_traced = train(plain, PARAMS), train(traced, COMPILED)
    assert traced.n_traced > 0
    assert list(plain.model.state_dict()) == list(traced.model.state_dict())
    assert told.history == told_traced.history
    assert same(weights(plain), weights(traced))


@pytest.mark.usefixtures("no_compiler_needed")
@pytest.mark.parametrize("first", [Toy, Traced])
def test_one_goes_on_from_the_others_checkpoint(tmp_path: Path, first: type[Toy]) -> None:
    kinds = {Toy: PARAMS, Traced: COMPILED}
    whole, begun = Toy(), first()
    train(whole, PARAMS)
    begun.fail_at = (1, 2)
    with pytest.raises(RuntimeError, match="plug"):
        train(begun, kinds[first], checkpoint=tmp_path / "c", checkpoint_s=0)
    assert set(read_checkpoint(tmp_path / "c")[1]) >= {f"model.{name}" for name in whole.model.state_dict()}
    (second,) = (kind for kind in kinds if kind is not first)
    resumed = second(seed=9)
    assert train(resumed, kinds[second], checkpoint=tmp_path / "c").resumed_at == 8
    assert same(weights(whole), weights(resumed))


def test_a_model_that_cannot_be_compiled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "require_compiler", lambda device: None)
    refused = Traced()

    def broken(*_: Any) -> Any:
        raise ValueError("an operation that nobody knows")

    refused.model.forward = torch.compile(refused.model.forward, backend=broken)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="not possible with this model.*leave it off"):
        train(refused, COMPILED)


SCRIPT = """
from training_toy import PARAMS, Toy
from deponij.pipeline.training.loop import train
from deponij.store.errors import UsageError
task = Toy()
task.fail_at = (0, 0)
try:
    train(task, PARAMS.model_copy(update={"compile": True}))
except UsageError as error:
    print(error)
"""


def test_what_the_compiler_lacks_is_said_before_anything_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: Any, **__: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: none works\nand more")

    monkeypatch.setattr(torch, "compile", lacking)
    task = Toy()
    task.fail_at = (0, 0)
    with pytest.raises(UsageError, match="on a cpu .*none works; install it, or leave compile off"):
        train(task, COMPILED)


@pytest.mark.slow
def test_without_a_compiler_torch_says_so(tmp_path: Path) -> None:
    """In a process of its own, for torch reads once which compiler there is, and keeps what it has compiled."""
    paths = os.pathsep.join((str(Path(__file__).parents[2] / "worlds"), str(Path(__file__).parents[3])))
    cache = {"CXX": str(tmp_path / "no-such-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | cache | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "compile: true needs" in done.stdout
    assert "no-such-compiler" in done.stdout and "leave compile off" in done.stdout


@needs_compiler
@pytest.mark.slow
def test_compiled_it_learns_the_same_but_for_rounding() -> None:
    """By plain gradients: of one that is nothing but rounding, as a bias's before a batch norm, Adam makes whole steps."""
    plain, compiled, sgd = Toy(), Toy(), {"optimizer": "sgd"}
    told = train(plain, PARAMS.model_copy(update=sgd))
    told_compiled = train(compiled, COMPILED.model_copy(update=sgd))
    for one, other in zip(told.history, told_compiled.history, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3)
    for one, other in zip(weights(plain), weights(compiled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
