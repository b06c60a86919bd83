"""Batches of captions, and what validation says of them, with a model of two numbers."""

import pytest
import torch
from captions_toy import PX, task_of


@pytest.mark.parametrize(("n", "sizes"), [(22, [8, 7, 7]), (16, [8, 8]), (17, [6, 6, 5]), (3, [3])])
def test_batches_are_of_equal_size_and_hold_each_picture_once(n: int, sizes: list[int]) -> None:
    task = task_of([i % 5 for i in range(n)], [], torch.eye(5))
    batches = list(task.batches(0))
    assert [len(pixels) for pixels, *_ in batches] == sizes
    assert task.n_batches() == len(sizes)
    plan = [place for places in task._plan(0) for place in places]
    assert sorted(plan) == list(range(n))
    seen = torch.cat([captions for _, captions, _ in batches])
    assert seen.tolist() == [place % 5 for place in plan]
    assert torch.equal(torch.cat([texts for *_, texts in batches]), torch.eye(5)[seen])
    (last,) = list(task.batches(0, len(sizes) - 1))
    assert torch.equal(last[1], batches[-1][1])
    assert n == 3 or [place for places in task._plan(1) for place in places] != plan


def test_validation_is_the_mean_of_both_ways() -> None:
    """Pictures of the colours 0, 1, 2, whose captions' vectors are colours 0, 0.9 x 0 + 0.1 x 1 and 2.

    Picture 1 is nearest to text 1, though by little, so all pictures find theirs; text 1 finds picture 0.
    """
    texts = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0, 1]])
    found = task_of([0, 1], [0, 1, 2], texts).validate()
    assert found == {
        "recall@1": pytest.approx((1 + 2 / 3) / 2),
        "image-to-text recall@1": pytest.approx(1),
        "text-to-image recall@1": pytest.approx(2 / 3),
    }
    assert next(iter(found)) == "recall@1", "the first decides"


@pytest.mark.parametrize("val", [[], [1, 1]])
def test_there_is_nothing_to_choose_on_where_all_have_one_caption(val: list[int]) -> None:
    assert task_of([0, 1], val, torch.eye(3)).validate() == {}


def test_a_batch_to_try_may_be_larger_than_there_are_captions() -> None:
    pixels, captions, texts = task_of([0, 1], [], torch.eye(3)).stand_in(5)
    assert pixels.shape == (5, 3, PX, PX)
    assert captions.tolist() == [0, 1, 2, 0, 1]
    assert texts.shape == (5, 3)
