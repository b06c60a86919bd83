"""What a bar shows of a training, also of one that is gone on with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from training_toy import PARAMS, Toy

from deponij.pipeline.training.loop import train
from deponij.project.frame import training_bar


def test_a_bar_counts_to_the_end_and_says_how_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, str, int | None]] = []

    @contextmanager
    def bar(label: str, total: int | None, unit: str) -> Iterator[Any]:
        assert (label, total, unit) == ("linear", None, "batches")
        yield lambda n, note="", total=None: shown.append((n, note, total))

    monkeypatch.setattr(training_bar, "bar", bar)
    toy = Toy()
    toy.fail_at = (2, 0)
    with pytest.raises(RuntimeError, match="plug"), training_bar.training_bar("linear") as on_step:
        train(toy, PARAMS, checkpoint=tmp_path / "c", checkpoint_s=0, on_step=on_step)
    # two of four epochs of six batches
    assert sum(n for n, _, _ in shown) == 12 and {total for _, _, total in shown} == {24}
    assert "minus_loss" not in shown[0][1] and "minus_loss" in shown[-1][1] and "epoch 2" in shown[-1][1]
    shown.clear()
    with training_bar.training_bar("linear") as on_step:
        train(Toy(), PARAMS, checkpoint=tmp_path / "c", checkpoint_s=0, on_step=on_step)
    assert shown[0][0] == 13 and sum(n for n, _, _ in shown) == 24


def test_the_best_is_kept_where_there_is_something_to_choose_on(monkeypatch: pytest.MonkeyPatch) -> None:
    best = PARAMS.model_copy(update={"keep": "best"})
    assert training_bar.keeps_the_best(train(Toy(), best), best)
    assert not training_bar.keeps_the_best(train(Toy(), PARAMS), PARAMS)
    monkeypatch.setattr(Toy, "validate", lambda self: {})
    assert not training_bar.keeps_the_best(train(Toy(), best), best)
