"""What trackers are told, read back from their own files."""

import importlib.util
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from training_toy import PARAMS, Toy, same, weights

from deponij.pipeline.training.loop import train
from deponij.pipeline.training.trackers import TRACKERS, Tracking
from deponij.store.errors import StoreError, UsageError


def told(folder: Path) -> Mapping[str, list[tuple[int, float]]]:
    """Scalars of TensorBoard's event files: step and value by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


def test_tensorboards_file_holds_the_losses(tmp_path: Path) -> None:
    tracked, plain, losses = Toy(), Toy(), []
    loss = tracked.loss

    def seen(batch: Any) -> Any:
        losses.append(loss(batch))
        return losses[-1]

    tracked.loss = seen  # type: ignore[method-assign]
    training = train(tracked, PARAMS, tracking=Tracking(["tensorboard"], tmp_path, "toy"))
    train(plain, PARAMS)
    assert same(weights(tracked), weights(plain))
    found = told(tmp_path / "toy")
    # event files hold float32
    assert found["train/loss"] == [
        (step, pytest.approx(float(one.detach()))) for step, one in enumerate(losses, 1)
    ]
    assert found["train/lr"] == [(step, pytest.approx(PARAMS.lr_at(step - 1, 24))) for step in range(1, 25)]
    ends = (6, 12, 18, 24)
    for name in ("loss", "minus_loss"):
        values = [one.loss if name == "loss" else one.figures[name] for one in training.history]
        assert found[f"epoch/{name}"] == [
            (step, pytest.approx(one)) for step, one in zip(ends, values, strict=True)
        ]


def test_an_interrupted_training_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    tracking, broken = Tracking(["tensorboard"], tmp_path, "toy"), Toy()
    broken.fail_at = (2, 1)
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, PARAMS, checkpoint=tmp_path / "c", checkpoint_s=1e6, tracking=tracking)
    again = train(Toy(), PARAMS, checkpoint=tmp_path / "c", tracking=tracking)
    steps = [step for step, _ in told(tmp_path / "toy")["train/loss"]]
    assert again.resumed_at < 13 and steps == list(range(1, 25))


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deponij.pipeline.training.trackers.find_spec", lambda name: None)
    for name in TRACKERS:
        toy = Toy()
        before = weights(toy)
        with pytest.raises(UsageError, match=f"pip install {name}"):
            train(toy, PARAMS, tracking=Tracking([name], tmp_path / "logs"))
        assert same(before, weights(toy))
    with pytest.raises(UsageError, match="there are tensorboard"):
        train(Toy(), PARAMS, tracking=Tracking(["tensor"], tmp_path))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the tracker tensorboard cannot write"):
        train(Toy(), PARAMS, tracking=Tracking(["tensorboard"], tmp_path / "file"))


def test_a_server_that_is_gone_is_said_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's package, played: it begins, and after three batches its server does not answer."""
    raised = type("MlflowException", (Exception,), {})
    answers: list[str] = []

    class Server:
        def __init__(self, name: str, logging_dir: str) -> None:
            answers.append(f"{name} {logging_dir}")

        def start(self) -> None:
            answers.append("start")

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            assert values["lr"] == PARAMS.lr and values["betas"] == "[0.9, 0.999]"

        def log(self, values: dict[str, float], step: int) -> None:
            if step > 3:
                raise raised("no answer\nfrom the server")
            answers.append(str(step))

    monkeypatch.setattr("deponij.pipeline.training.trackers.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", SimpleNamespace(MlflowException=raised))
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "mlflow", Server)
    tracked, plain, notes = Toy(), Toy(), list[str]()
    train(tracked, PARAMS, tracking=Tracking(["mlflow"], tmp_path, "toy"), on_note=notes.append)
    train(plain, PARAMS)
    assert answers == [f"toy {tmp_path}", "start", "1", "2", "3"] and same(weights(tracked), weights(plain))
    assert notes == [
        "the tracker mlflow cannot write: no answer; it is told no more, and the training goes on"
    ]
    monkeypatch.setattr(Server, "start", lambda self: self.log({}, 4))
    with pytest.raises(StoreError, match="mlflow cannot write: no answer"):
        train(Toy(), PARAMS, tracking=Tracking(["mlflow"], tmp_path, "toy"))


def test_errors_of_the_data_are_not_the_trackers(tmp_path: Path) -> None:
    class Gone(Toy):
        def batch(self, made: Any) -> Any:
            raise OSError("picture is gone")

    with pytest.raises(OSError, match="picture is gone"):
        train(Gone(), PARAMS, tracking=Tracking(["tensorboard"], tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("dvclive") is None, reason="needs dvclive")
def test_dvclive_is_told_the_same(tmp_path: Path) -> None:
    training = train(Toy(), PARAMS, tracking=Tracking(["dvclive"], tmp_path, "toy"))
    table = (tmp_path / "toy" / "plots" / "metrics" / "epoch" / "loss.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in table]
    assert [int(step) for step, _ in rows] == [6, 12, 18, 24]
    assert [float(value) for _, value in rows] == pytest.approx([one.loss for one in training.history])
    assert math.isfinite(training.history[-1].loss)
