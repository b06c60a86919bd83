"""Where a figure comes from: data, split, features and the command that makes it again.

Every figure of a page has one as its caption.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from deponij.pipeline.reports.wording import cell, code, short

# Joins the names, and the fingerprints, of several views.
JOINED = "+"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What stands beneath a figure.

    Attributes:
        profile, n_items: the data: whose, and how many.
        labels, split, part, n: what was answered where, on how many items; empty where it does not apply.
        features: name and fingerprint of each view.
        command: makes the figure again; empty where none is known.
    """

    profile: str
    n_items: int
    labels: str = ""
    split: str = ""
    part: str = ""
    n: int | None = None
    features: tuple[tuple[str, str], ...] = ()
    command: str = ""

    @property
    def facts(self) -> list[str]:
        """What it says of the data, in words."""
        texts = [f"profile {self.profile}", f"{self.n_items:,} items"]
        if self.labels:
            texts.append(f"labels {self.labels}")
        if self.split:
            texts.append(f"split {self.split}")
        if self.n is not None:
            texts.append(f"{self.part}, n = {self.n:,}" if self.part else f"n = {self.n:,}")
        return texts

    @property
    def markdown(self) -> str:
        """The caption as a line of Markdown."""
        texts = [cell(fact) for fact in self.facts]
        texts += [f"{cell(name)} `{short(fingerprint)}`" for name, fingerprint in self.features]
        if self.command:
            texts.append(f"`{code(self.command)}`")
        return " · ".join(texts)


def is_toy(backbone: str, toys: Collection[str]) -> bool:
    """Whether a backbone, or one of those that are joined to it, is among the toys."""
    return any(name in toys for name in backbone.split(JOINED))


def marked(name: str, is_toy: bool) -> str:
    """A backbone's name as people see it."""
    return f"{name} (toy)" if is_toy else name


def named_features(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Each view once, from names and fingerprints of single or joined ones (`a+b`)."""
    mark_of: dict[str, str] = {}
    for backbone, fingerprint in pairs:
        marks = fingerprint.split(JOINED)
        names = backbone.split(JOINED)
        if len(names) != len(marks):
            names, marks = [backbone], [fingerprint]
        mark_of |= {name: mark for name, mark in zip(names, marks, strict=True) if name not in mark_of}
    return tuple(mark_of.items())
