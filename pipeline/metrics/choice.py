"""Which of several classifiers is taken: by validation, never by what is reported of it. The one rule of tables, pages
and predictions.

The highest of many test figures is also a lucky one, and its interval does not cover it. Chosen by validation, the test
figure of one is as good as that of a classifier that stood alone.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Preference = tuple[bool, bool, float, int]


def preference(*, is_toy: bool, val_top1: float | None, n_backbones: int) -> Preference:
    """Sorts classifiers, the one to take first; of equals the earlier one stays first.

    What is real comes before all toys, what was judged on validation (`val_top1`, share of right first answers) before
    what was not; then falling top-1, then fewer backbones.
    """
    return is_toy, val_top1 is None, 0.0 if val_top1 is None else -val_top1, n_backbones


def chosen(candidates: Iterable[T], preference_of: Callable[[T], Preference]) -> T | None:
    """The one to take; None where nobody was judged on validation, for then none may be called the best."""
    first = min(candidates, key=preference_of, default=None)
    return None if first is None or preference_of(first)[1] else first
