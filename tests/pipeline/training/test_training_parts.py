"""Steps of several batches against the same step of one: each counts by what is in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_toy import PARAMS, Toy, same, weights

from deponij.pipeline.training.loop import train
from deponij.store.errors import UsageError


class Cut(Toy):
    """Whose one batch an epoch comes in parts of these sizes, without a batch norm, which would see other batches."""

    def __init__(self, *sizes: int, dropout: float = 0.0) -> None:
        super().__init__(dropout=dropout, n_batches=len(sizes), size=sum(sizes))
        self.model[1] = nn.Identity()
        self.sizes = sizes

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        x, y = self.batch(torch.Generator().manual_seed(epoch))
        yield from [list(one) for one in zip(x.split(self.sizes), y.split(self.sizes), strict=True)][first:]

    def validate(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("pieces", [2, 3, 7, 99])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_in_pieces_is_the_whole(pieces: int, accumulate: int) -> None:
    whole, cut = Cut(7, 3), Cut(7, 3)
    seen: list[int] = []
    loss = cut.loss
    cut.loss = lambda batch: (seen.append(len(batch[0])), loss(batch))[1]  # type: ignore[method-assign]
    params = PARAMS.model_copy(update={"accumulate": accumulate, "optimizer": "sgd", "clip_norm": 1.0})
    told = train(whole, params)
    found = train(cut, params.model_copy(update={"pieces": pieces}))
    for a, b in zip(weights(whole), weights(cut), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert [one.loss for one in found.history] == pytest.approx([one.loss for one in told.history])
    # To within one picture, and none of them empty.
    assert seen[: min(pieces, 7)] == [len(range(first, 7, min(pieces, 7))) for first in range(min(pieces, 7))]


@pytest.mark.parametrize("again", [1, 2, 3])
def test_a_training_goes_on_in_as_many_pieces_as_before(tmp_path: Path, again: int) -> None:
    """And comes to the same bytes; with less memory than before it goes on in more."""
    in_two = PARAMS.model_copy(update={"pieces": 2})
    whole, broken, after = (Toy(dropout=0.3) for _ in range(3))
    train(whole, in_two)
    broken.fail_at = (2, 1)
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, in_two, checkpoint=tmp_path / "c", checkpoint_s=0)
    notes: list[str] = []
    params = PARAMS.model_copy(update={"pieces": again})
    told = train(after, params, checkpoint=tmp_path / "c", on_note=notes.append)
    assert told.resumed_at == 13 and not notes
    assert same(weights(whole), weights(after)) == (again < 3)


def test_what_is_told_apart_within_a_batch_has_no_pieces() -> None:
    toy = Toy()
    toy.accumulates = False
    with pytest.raises(UsageError, match="pieces: 2 is not possible here"):
        train(toy, PARAMS.model_copy(update={"pieces": 2}))


@pytest.mark.parametrize("sizes", [(8, 8, 2), (2, 8, 8), (5, 6, 7)])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_batches_of_one_step_count_by_their_pictures(sizes: tuple[int, ...], clip_norm: float | None) -> None:
    whole, cut = Cut(sum(sizes)), Cut(*sizes)
    params = PARAMS.model_copy(update={"clip_norm": clip_norm, "optimizer": "sgd"})
    train(whole, params)
    train(cut, params.model_copy(update={"accumulate": 3}))
    for a, b in zip(weights(whole), weights(cut), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_equal_batches_have_the_bits_of_a_plain_mean() -> None:
    params = PARAMS.model_copy(update={"accumulate": 3, "schedule": "constant"})
    ours, plain = Cut(5, 5, 5), Cut(5, 5, 5)
    train(ours, params)
    step = torch.optim.AdamW(plain.model.parameters(), lr=0.02, weight_decay=0.01)
    for epoch in range(4):
        for batch in plain.batches(epoch):
            (plain.loss(batch) / 3).backward()
        step.step()
        step.zero_grad()
    assert same(weights(ours), weights(plain))


def test_a_batch_that_counts_nothing_changes_nothing() -> None:
    """As label maps of which nothing is said, first or last in a step, or alone in it."""

    class Void(Cut):
        def loss(self, batch: Any) -> Tensor:
            return super().loss(batch) if self.counts(batch) else self.model(batch[0]).sum() * 0

        def counts(self, batch: Any) -> float:
            return len(batch[0]) if len(batch[0]) > 2 else 0.0

    plain = Void(6, 7)
    plain.batch = lambda made: [one[2:15] for one in Toy.batch(void, made)]  # type: ignore[method-assign]
    void = Void(2, 6, 7, 2)
    sgd = PARAMS.model_copy(update={"optimizer": "sgd"})
    train(plain, sgd.model_copy(update={"accumulate": 2}))
    train(void, sgd.model_copy(update={"accumulate": 4}))
    for a, b in zip(weights(plain), weights(void), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    alone = Void(2, 2)
    before = weights(alone)
    train(alone, sgd.model_copy(update={"accumulate": 2, "weight_decay": 0.0}))
    assert same(before, weights(alone))
