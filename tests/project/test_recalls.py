"""Recall of pictures and captions, by hand; intervals against a bootstrap written out."""

import numpy as np
import pytest

from deponij.project.tuning.recalls import MEASURES, Hits, brought, hits

E = np.eye(4, dtype=np.float32)


def test_equal_captions_are_all_right_answers() -> None:
    """Pictures e0, e1, e2 of the captions 0, 0, 3, whose words are e1 and e2.

    Picture e0 has cosine 0 with both captions, and the wrong one comes first: only the second is right. The caption of the
    first two finds e1, which is one of its pictures, for both.
    """
    words = np.stack([E[1], E[3], E[3], E[2]])
    found = hits(E[:3], words, np.array([0, 0, 3]))
    assert found.is_hit["image-to-text"][:, 0].tolist() == [0, 1, 1]
    assert found.is_hit["text-to-image"][:, 0].tolist() == [1, 1, 1]
    assert found.recall_at_1 == {"image-to-text": pytest.approx(2 / 3), "text-to-image": 1.0}
    # At random: one of two captions; 2, 2 and 1 of three pictures.
    assert found.chance["image-to-text"][0] == pytest.approx(1 / 2)
    assert found.chance["text-to-image"][0] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_a_model_to_which_all_is_alike_finds_nothing() -> None:
    n = 6
    found = hits(np.ones((n, 4), np.float32), np.ones((n, 4), np.float32), np.arange(n))
    assert found.recall_at_1 == {"image-to-text": 0.0, "text-to-image": 0.0}


def test_what_it_brought_with_a_bootstrap_over_groups() -> None:
    """The percentiles of drawn gains lie within the interval, whose levels lie a little further out."""
    rng = np.random.default_rng(0)
    n, groups = 120, np.repeat(np.arange(30), 4).astype(str)
    before, after = ((rng.random((n, len(MEASURES))) < share).astype(float) for share in (0.3, 0.6))
    nothing = np.zeros(len(MEASURES))
    one, other = (
        Hits({"image-to-text": it, "text-to-image": it}, {"image-to-text": nothing, "text-to-image": nothing})
        for it in (before, after)
    )
    found = brought(one, other, groups)["text-to-image"]["recall@5"]
    assert (found.before, found.after) == (
        pytest.approx(before[:, 1].mean()),
        pytest.approx(after[:, 1].mean()),
    )
    gains = (after - before)[:, 1].reshape(30, 4).mean(axis=1)
    drawn = rng.choice(gains, (4000, 30)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.gain_interval is not None
    assert found.gain_interval == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert found.gain_interval[0] < low and found.gain_interval[1] > high
    few = brought(one, other, np.repeat(np.arange(5), 24).astype(str))["image-to-text"]["recall@1"]
    assert few.gain_interval is None and few.before_interval is None
