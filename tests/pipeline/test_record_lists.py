"""Measured numbers are kept to six digits."""

from deponij.pipeline.record_lists import Measured, rounded


class Made(Measured):
    share: float
    bounds: tuple[float, float] | None
    seen: dict[str, float]
    n: int


def test_six_digits() -> None:
    # By hand: digits are counted from the first that is not 0.
    assert rounded([0.123456789, 1234567.8, 1.23456789e-9, {"a": (2 / 3, "b", None, True)}, 12345678]) == [
        *(0.123457, 1234570.0, 1.23457e-9, {"a": (0.666667, "b", None, True)}, 12345678)
    ]


def test_a_record_is_equal_whatever_the_last_bits_are() -> None:
    """A float32 in its last place, as another order of adding leaves it."""
    one, other = (
        Made(share=1 / 3 + off, bounds=(0.1 + off, 0.7), seen={"x": 3.5 - off}, n=7) for off in (0.0, 3e-8)
    )
    assert (one.share, one.bounds, one.seen) == (0.333333, (0.1, 0.7), {"x": 3.5})
    assert one.model_dump_json() == other.model_dump_json()
    assert Made.model_validate_json(one.model_dump_json()) == one
