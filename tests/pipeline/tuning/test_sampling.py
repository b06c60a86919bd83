"""What an epoch shows, by counts; class weights against hand numbers and scikit-learn."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from deponij.pipeline.tuning.sampling import class_weights, epoch_indices
from deponij.store.errors import UsageError

LABELS = np.repeat([0, 1, 2], [900, 90, 10])


def test_without_balance_each_picture_comes_once() -> None:
    first, again, next_one = (epoch_indices(LABELS, seed=3, epoch=epoch) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(1000)) and first.dtype == np.int64
    assert (first == again).all() and (first != next_one).any()
    assert (first != epoch_indices(LABELS, seed=4, epoch=0)).any()
    assert (epoch_indices(LABELS, seed=3, epoch=0, n=10) == first[:10]).all()


@pytest.mark.parametrize(
    ("power", "shares"),
    [
        (1.0, [1 / 3, 1 / 3, 1 / 3]),
        # as the roots 30, 9.487, 3.162 of the counts
        (0.5, [0.7034, 0.2224, 0.0741]),
    ],
)
def test_balance_is_in_the_counts(power: float, shares: list[float]) -> None:
    drawn = LABELS[epoch_indices(LABELS, seed=0, epoch=2, power=power, n=30_000)]
    # 0.01 is more than three deviations of a share of 30,000 draws
    assert np.bincount(drawn) / 30_000 == pytest.approx(shares, abs=0.01)
    assert len(epoch_indices(LABELS, seed=0, epoch=2, power=power)) == 1000


def test_class_weights_have_a_mean_of_one() -> None:
    """1 / (6, 3, 1) are as 1 : 2 : 6, over ten pictures of mean 1.8; roots are as 1 : √2 : √6."""
    labels = np.repeat([0, 1, 3], [6, 3, 1])
    assert class_weights(labels, 4).tolist() == pytest.approx([1 / 1.8, 2 / 1.8, 0, 6 / 1.8])
    roots = np.array([1, 2**0.5, 0, 6**0.5])
    assert class_weights(labels, 4, power=0.5) == pytest.approx(roots / (roots @ [6, 3, 0, 1]) * 10)
    assert class_weights(labels, 4, power=0).tolist() == [1, 1, 0, 1]
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert class_weights(LABELS, 3) == pytest.approx(balanced)


def test_what_cannot_be_sampled() -> None:
    for labels, more, said in [
        (LABELS[:0], {}, "nothing"),
        (LABELS, {"n": 1001}, "give a power"),
        (LABELS, {"power": -1.0}, "0 \\(none\\) or more"),
    ]:
        with pytest.raises(UsageError, match=said):
            epoch_indices(labels, seed=0, epoch=0, **more)
    with pytest.raises(UsageError, match="from 0 to 1"):
        class_weights(LABELS, 2)
