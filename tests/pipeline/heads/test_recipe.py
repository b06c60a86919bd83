"""The order of batches and the fall of the learning rate, by hand."""

import numpy as np
import pytest

from deponij.pipeline.heads.gradient.recipe import Recipe, batches


def test_an_epoch_sees_every_example_once() -> None:
    recipe = Recipe(epochs=2, batch=4)
    steps = list(batches(3, 10, recipe))
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(first, generator.permutation(10))
    np.testing.assert_array_equal(second, generator.permutation(10))


def test_a_number_of_steps_cuts_an_endless_stream() -> None:
    recipe = Recipe(epochs=2, batch=4, steps_per_epoch=5)
    steps = list(batches(3, 10, recipe))
    assert [len(step) for step in steps] == [4] * 10
    stream = np.concatenate(steps)
    for start in range(0, 40, 10):
        assert sorted(stream[start : start + 10]) == list(range(10))


def test_a_batch_may_be_larger_than_all_examples() -> None:
    assert [len(step) for step in batches(0, 3, Recipe(epochs=1))] == [3]
    assert [len(step) for step in batches(0, 3, Recipe(epochs=1, batch=8, steps_per_epoch=2))] == [8, 8]


def test_the_cosine() -> None:
    # Over 4 epochs of 3 steps: cos(0), cos(pi / 4), cos(pi / 2), ...
    recipe = Recipe(epochs=4, batch=4, final_lr=0.1)
    half = 0.1 + 0.9 * (1 + 2**-0.5) / 2
    found = [recipe.learning_rate(1.0, step, 10) for step in (0, 2, 3, 5, 6)]
    assert found == pytest.approx([1, 1, half, half, 0.55])
    by_step = Recipe(epochs=2, batch=4, final_lr=0.0, steps_per_epoch=2, per_step=True)
    assert [by_step.learning_rate(1.0, step, 10) for step in (0, 1, 2)] == pytest.approx(
        [1, (1 + 2**-0.5) / 2, 0.5]
    )
