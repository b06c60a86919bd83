"""What the stages that read text vectors share: which texts speak of which class, by the same model. This is no stage.

A view of texts may hold captions of items beside texts of classes. Captions are told by the column `caption_column`: it
names the items' column that a caption stands in, and is empty for texts of classes; without captions there is no such
column. Whoever asks for texts of classes gets no captions. Text vectors are never made here; where they are missing,
the error names the command that makes them.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.project.frame.text_columns import CAPTION_COLUMN
from deponij.store.errors import DataError, IdentityError, StoreError
from deponij.store.view import View

Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """Text vectors of classes.

    Attributes:
        vectors: [m, d].
        classes: name of the class that each text speaks of, [m].
        templates: those that the texts were made with, sorted.
    """

    vectors: NDArray[np.floating]
    classes: Names
    templates: tuple[str, ...]


def extract_text_command(
    backbone: str, items: Path, labels: Sequence[str], out: Path, captions: str | None = None
) -> str:
    """The command that makes the text vectors of label columns, and of a column of captions."""
    parts = ["deponij", "extract-text", "--backbone", backbone, "--items", str(items)]
    parts += [part for column in labels for part in ("--labels", column)]
    parts += [] if captions is None else ["--captions", captions]
    return shlex.join([*parts, "--out", str(out)])


def open_texts(path: Path, backbone: str, items: Path, labels: Sequence[str]) -> View:
    """A view of texts that name their class; the other arguments are for the command that makes what is missing.

    Raises:
        StoreError: there is none, it is damaged, or its texts name no class.
        IdentityError: features of another kind.
    """
    if not path.is_file():
        command = extract_text_command(backbone, items, labels, path)
        raise StoreError(f"there are no text vectors of {backbone} at {path}. Make them with\n  {command}")
    text_view = View(path)
    if text_view.kind != "text":
        raise IdentityError(f"{path} holds features of kind {text_view.kind!r}; texts must be of kind 'text'")
    if "group" not in text_view.columns:
        raise StoreError(
            f"{path} does not say which class its texts describe (no column 'group'); make it with "
            "`deponij extract-text --items … --labels …`"
        )
    return text_view


def open_class_texts(path: Path, view: View, items: Path, labels: Sequence[str]) -> View:
    """A view of texts that name their class, by the model of the pictures' features.

    Raises:
        IdentityError: features of another kind, or of another model.
        StoreError: there is none, it is damaged, or its texts name no class.
    """
    text_view = open_texts(path, view.backbone, items, labels)
    if differences := model_differences(view, text_view):
        raise IdentityError(
            f"{view.path} ({view.backbone}) and {text_view.path} ({text_view.backbone}) are of different "
            f"models: {'; '.join(differences)}"
        )
    return text_view


def model_differences(view: View, text_view: View) -> list[str]:
    """What tells the models of two views apart, in words; empty for the same one."""
    images, words = view.identity, text_view.identity
    return [
        f"{name}: {getattr(images, name)} against {getattr(words, name)}"
        for name in ("backbone", "weights")
        if getattr(images, name) != getattr(words, name)
    ]


def templates_of(text_view: View) -> list[str]:
    """The templates that a view's texts were made with, in the order in which they first occur."""
    return list(dict.fromkeys(_templates(text_view)[_class_rows(text_view)].tolist()))


def groups_of(text_view: View) -> list[str]:
    """The classes that a view's texts speak of, sorted."""
    return sorted(set(text_view.columns["group"][_class_rows(text_view)].tolist()))


def caption_columns(text_view: View) -> list[str]:
    """The items' columns whose captions a view holds, sorted."""
    return sorted(set(_caption_column(text_view).tolist()) - {""})


def caption_vectors(
    text_view: View,
    column: str,
    captions: Sequence[str],
    *,
    backbone: str,
    items: Path,
    labels: Sequence[str],
) -> NDArray[np.floating]:
    """The vectors of captions of a column, [m, d], in this order.

    Args:
        backbone, items, labels: for the command that makes what is missing.

    Raises:
        DataError: a caption has no vector.
    """
    rows = np.flatnonzero(_caption_column(text_view) == column).tolist()
    row_of = {str(text_view.columns["text"][row]): row for row in rows}
    missing = [caption for caption in captions if caption not in row_of]
    if missing:
        command = extract_text_command(backbone, items, labels, text_view.path, column)
        raise DataError(
            f"{len(missing)} captions have no vectors in {text_view.path}, the first: {missing[0]!r}. Make them with\n"
            f"  {command}"
        )
    vectors: NDArray[np.floating] = text_view.embedding[[row_of[caption] for caption in captions]]
    return vectors


def class_texts(
    text_view: View,
    classes: Collection[str],
    *,
    backbone: str,
    items: Path,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
) -> ClassTexts:
    """The text vectors of some classes; texts of other classes are left out.

    Args:
        backbone, items, labels: for the command that makes what is missing.
        templates: use only texts of these; None for all.

    Raises:
        DataError: a class has no text, or there are none of a template.
    """
    rows = _rows(text_view, templates)
    groups = text_view.columns["group"]
    missing = sorted(set(classes) - set(groups[rows].tolist()))
    if missing:
        named = ", ".join(repr(name) for name in missing[:10]) + (", …" if len(missing) > 10 else "")
        # The file is written anew, so that what else is in it must be asked for again.
        captions = next(iter(caption_columns(text_view)), None)
        raise DataError(
            f"{len(missing)} classes have no text vectors in {text_view.path}: {named}. Make them with\n"
            f"  {extract_text_command(backbone, items, labels, text_view.path, captions)}"
        )
    rows = rows[np.isin(groups[rows], sorted(classes))]
    used = tuple(sorted(set(_templates(text_view)[rows].tolist())))
    return ClassTexts(text_view.embedding[rows], groups[rows], used)


def _templates(text_view: View) -> Names:
    templates: Names = text_view.columns.get("template", np.full(len(text_view), ""))
    return templates


def _caption_column(text_view: View) -> Names:
    captions: Names = text_view.columns.get(CAPTION_COLUMN, np.full(len(text_view), ""))
    return captions


def _class_rows(text_view: View) -> NDArray[np.int64]:
    return np.flatnonzero(_caption_column(text_view) == "")


def _rows(text_view: View, templates: Sequence[str] | None) -> NDArray[np.int64]:
    rows = _class_rows(text_view)
    if templates is None:
        return rows
    there = _templates(text_view)[rows]
    absent = sorted(set(templates) - set(there.tolist()))
    if absent:
        known = sorted(set(there.tolist()))[:10]
        raise DataError(f"{text_view.path} has no texts of the templates {absent}; it has {known}")
    return rows[np.isin(there, list(templates))]
