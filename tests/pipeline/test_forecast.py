"""What twice the items would bring: power laws that are recovered, curves of which nothing can be told, and coverage."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from deponij.pipeline import forecast as module
from deponij.pipeline.forecast import fit, forecast
from deponij.pipeline.metrics.curves import Twice
from deponij.pipeline.metrics.intervals import wilson

NS = [12.0, 25.0, 50.0, 100.0, 200.0]


def law(n: np.ndarray | float, floor: float = 0.1, scale: float = 1.2, exponent: float = 0.4) -> np.ndarray:
    return floor + scale * np.asarray(n) ** -exponent


def hits_of(errors: np.ndarray, n_test: int, tries: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Tries of each size on the same test items, the last a single one: an item has a difficulty that all share."""
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(size=n_test)
    hits = []
    for place, error in enumerate(errors):
        n_tries = 1 if place == len(errors) - 1 else tries
        # Half of what decides is the item's, half is of this try alone; the sum's distribution is a triangle's.
        luck = (difficulty + rng.uniform(size=(n_tries, n_test))) / 2
        border = np.sqrt((1 - error) / 2) if error >= 0.5 else 1 - np.sqrt(error / 2)
        hits.append(luck < border)
    return hits


def told(n_test: int = 4000, errors: np.ndarray | None = None, seed: int = 0, **changes: object) -> Twice:
    errors = law(NS) if errors is None else errors
    given = {"n_train": NS, "hits": hits_of(errors, n_test, seed=seed), "groups": np.arange(n_test)}
    return forecast(**{**given, "n_pictures": 720, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("exponent", [0.1, 0.4, 0.75, 1.3])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_a_power_law_without_noise_is_recovered(floor: float, exponent: float) -> None:
    exact = {"floor": floor, "scale": 0.9, "exponent": exponent}
    found = fit(NS, law(np.array(NS), **exact)[None])
    assert found.exponent[0] == pytest.approx(exponent)
    assert (found.floor[0], found.scale[0]) == pytest.approx((floor, 0.9), abs=1e-9)
    assert found.at(400)[0] == pytest.approx(law(400, **exact), abs=1e-9)


def test_between_two_exponents_of_the_grid_the_error_at_twice_is_off_by_nothing_that_shows() -> None:
    exact = {"floor": 0.07, "scale": 0.9, "exponent": 0.3333}
    assert fit(NS, law(np.array(NS), **exact)[None]).at(400)[0] == pytest.approx(law(400, **exact), abs=5e-4)


def test_least_squares_are_scipy_s() -> None:
    rng = np.random.default_rng(3)
    errors = law(np.array(NS)) + 0.005 * rng.normal(size=(6, len(NS)))
    found = fit(NS, errors)
    weights = np.arange(1, 6) / 5
    for i, row in enumerate(errors):
        (a, b, c), _ = curve_fit(
            lambda n, a, b, c: a + b * n**-c,
            NS,
            row,
            p0=(0.1, 1, 0.5),
            sigma=weights**-0.5,
            bounds=([0, 0, 0.05], [1, 50, 1.5]),
        )
        theirs = float(((a + b * np.array(NS) ** -c - row) ** 2) @ weights)
        ours = float(
            ((found.floor[i] + found.scale[i] * np.array(NS) ** -found.exponent[i] - row) ** 2) @ weights
        )
        assert ours == pytest.approx(theirs, rel=0.02)
        assert found.at(400)[i] == pytest.approx(a + b * 400**-c, abs=2e-3)


def test_errors_that_rise_or_stay_give_a_level_line() -> None:
    found = fit(NS, np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.3] * 5]))
    assert found.scale.tolist() == pytest.approx([0, 0], abs=1e-12)
    # The means, weighed 1 to 5: (0.1 + 0.4 + 0.9 + 1.6 + 2.5) / 15.
    assert found.at(400).tolist() == pytest.approx([5.5 / 15, 0.3])


def test_a_curve_that_rises_is_continued() -> None:
    found = told()
    assert (found.n_pictures, found.n_train, found.unknown) == (720, 400, "")
    assert found.band[0] < 1 - law(400) < found.band[1]
    assert found.top1 == pytest.approx(1 - law(400), abs=0.02)
    assert found.gain_band[0] < law(200) - law(400) < found.gain_band[1]
    assert found.band[1] - found.band[0] < 0.06


def test_fewer_test_items_and_larger_groups_widen_the_band() -> None:
    def width(found: Twice) -> float:
        return found.band[1] - found.band[0]

    assert width(told(400)) > 1.5 * width(told(4000))
    # Sixteen copies of each item, known to be copies, tell no more than one.
    once = hits_of(law(NS), 250)
    copied = [np.repeat(one, 16, axis=1) for one in once]
    grouped = forecast(NS, copied, np.repeat(np.arange(250), 16), 720)
    single = forecast(NS, once, np.arange(250), 720)
    assert (grouped.top1, grouped.gain_band) == (single.top1, single.gain_band)
    assert grouped.band == pytest.approx(single.band, abs=0.01)
    # Nor do groups whose luck is alike make a band narrower than Wilson's of single items: 250 of these.
    assert width(single) >= np.subtract(*wilson(single.top1, 250, 1.2815515655446004)[::-1]) - 1e-5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"errors": np.full(5, 0.4), "n_test": 100}, "does not rise"),
        ({"errors": np.array([0.2, 0.25, 0.3, 0.35, 0.4])}, "does not rise"),
        ({"errors": np.array([0.6, 0.55, 0.5, 0.5, 0.48]), "n_test": 12}, r"does not rise|anything from"),
        ({"n_train": NS[:2], "hits": hits_of(law(NS[:2]), 4000)}, "25 training items are too few"),
        ({"groups": np.arange(4000) % 9}, "9 independent test items are too few, it takes 10"),
        ({"hits": hits_of(law(NS), 4000, tries=1)}, "one draw of each size"),
    ],
)
def test_nothing_is_told_where_nothing_can_be(changes: dict[str, object], why: str) -> None:
    found = told(**changes)  # type: ignore[arg-type]
    assert (found.top1, found.band, found.gain, found.gain_band) == (None, None, None, None)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.unknown)
    assert found.in_words(0.6) == f"Twice the pictures (720): cannot tell, {found.unknown}."


def test_all_right_at_the_end_still_has_a_band_down() -> None:
    hits = [*hits_of(np.array([0.5, 0.3, 0.2, 0.1, 0.1]), 60)[:4], np.ones((1, 60), dtype=bool)]
    found = forecast(NS, hits, np.arange(60), 720)
    # Wilson's bounds of all right of 60 reach from 97.3 % on at 80 %.
    assert found.band[0] < 0.974
    assert found.band[1] <= 1


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of 80 worlds 64 are expected, with a standard error of 3.6; three of them either way."""
    truth = 1 - law(400)
    held = sum(
        found.band[0] <= truth <= found.band[1]
        for found in (told(200, seed=seed) for seed in range(80))
        if found.band
    )
    assert 53 <= held <= 78


def test_how_much_tries_differ_on_any_test_items() -> None:
    # Tries of one accuracy differ on 50 items by luck alone; those of 50 % to 70 % by more. Copies change nothing.
    rng = np.random.default_rng(0)
    accuracies = np.array([[0.5], [0.55], [0.6], [0.65], [0.7]])
    alone = np.arange(50)
    same, apart = (
        [module._variance_of_tries(rng.random((5, 50)) < of_tries, alone) for _ in range(200)]
        for of_tries in (0.6, accuracies)
    )
    assert np.mean(apart) == pytest.approx(np.var(accuracies, ddof=1), rel=0.25)
    assert np.mean(same) < np.var(accuracies, ddof=1) / 3
    once = rng.random((5, 50)) < accuracies
    copied = module._variance_of_tries(np.repeat(once, 4, axis=1), np.repeat(alone, 4))
    assert copied == pytest.approx(module._variance_of_tries(once, alone))
    assert module._variance_of_tries(np.ones((3, 10), dtype=bool), np.arange(10)) == 0


def test_in_words() -> None:
    known = Twice(
        n_pictures=720, n_train=400, top1=0.65, band=(0.612, 0.688), gain=0.05, gain_band=(0.02, 0.08)
    )
    assert (
        known.in_words(0.602)
        == "Twice the pictures (720): 61–69 % (80 % band), from 60.2 % now; a gain of 2 to 8 points."
    )
    lost = known.model_copy(update={"gain_band": (-0.034, 0.001)})
    assert lost.in_words(0.602).endswith("; a gain of −3 to 0 points.")
    none = known.model_copy(update={"gain_band": (-0.004, 0.012)})
    assert none.in_words(0.602).endswith("; a gain of 0 to 1 points.")


def test_rotations_widen_bands_by_the_variance_of_their_tries() -> None:
    """A try's answers are of R classifiers, a single one differs R times as much; variances add.

    Five tries of 4,000 items whose accuracies lie 2 points apart have a variance of 0.001.
    """
    hits = []
    for place, error in enumerate(law(NS)):
        shifts = [0.0] if place == len(NS) - 1 else [-0.04, -0.02, 0.0, 0.02, 0.04]
        hits.append(np.stack([np.arange(4000) < round(4000 * (1 - error + shift)) for shift in shifts]))
    quantile = 1.2815515655446004

    def variance(bounds: tuple[float, float] | None, wider: float = 1.0) -> float:
        assert bounds is not None
        return ((bounds[1] - bounds[0]) / (2 * quantile * wider)) ** 2

    one, four = (forecast(NS, hits, np.arange(4000), 720, n_rotations) for n_rotations in (1, 4))
    # Of the classifier to come alone; of a gain also the one that there is, and all is a quarter wider.
    assert variance(four.band) - variance(one.band) == pytest.approx(3 * 0.001, rel=0.2)
    added = variance(four.gain_band, 1.25) - variance(one.gain_band, 1.25)
    assert added == pytest.approx(2 * 3 * 0.001, rel=0.2)
    assert (four.top1, four.gain) == (one.top1, one.gain)


def test_groups_that_are_all_alike_have_the_band_of_their_items_or_of_so_few_groups() -> None:
    """Of each photograph as many of ten items are right, so that drawing others changes nothing: Wilson's bounds remain."""

    def of(n_right: list[int], n_groups: int) -> Twice:
        hits = [np.tile(np.arange(10) < one, (2, n_groups)) for one in n_right]
        return forecast(NS, hits, np.repeat(np.arange(n_groups), 10), 720)

    quantile = 1.2815515655446004
    found = of([1, 2, 3, 4, 5], 30)
    assert found.top1 is not None
    assert found.band == pytest.approx(wilson(found.top1, 300, quantile), abs=1e-6)
    # All right: as low as of twelve that are, 12 / (12 + 1.2816**2), not of 120.
    found = of([6, 8, 9, 10, 10], 12)
    assert found.band is not None and found.band[0] == pytest.approx(12 / (12 + quantile**2), abs=1e-6)
