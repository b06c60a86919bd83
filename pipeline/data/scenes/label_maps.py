"""Scenes from any folder of pictures and of label maps. Layouts: `layouts`; tables of classes: `class_tables`."""

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import spelled
from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.adapters.whole import whole_picture
from deponij.pipeline.data.inside import Links, existing_folder, read_inside
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.data.scenes.class_tables import BUILT_IN, Byte, ClassEntry, ClassTable, Id, class_table
from deponij.pipeline.data.scenes.descriptions import described, described_sets
from deponij.pipeline.data.scenes.label_files import check_kind, read_labels
from deponij.pipeline.data.scenes.layouts import Found, Pair, find_pairs
from deponij.pipeline.data.scenes.registry import (
    GroupPattern,
    Scene,
    group_by,
    left_out,
    register_scenes,
    scene_of,
)
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.record_lists import Record
from deponij.store.errors import DataError
from deponij.store.label_maps import Labels

LayoutName = Literal["segnet", "voc", "cityscapes", "ade20k", "folders"]


class LabelMapParams(Record):
    """Where pictures and label maps lie, and what values of label maps mean.

    Attributes:
        folder: below which both lie.
        layout: how (`deponij.pipeline.data.scenes.layouts`); none: it is recognised.
        images, labels: the two folders' names, of the layout `folders`.
        classes: a built-in table, a file, or the classes themselves (`deponij.pipeline.data.scenes.class_tables`); none:
            the one that goes with the layout.
        void, void_colours: ids and colours of which nothing is learned, besides those that the table calls void.
        descriptions: a name or file (`deponij.pipeline.data.scenes.descriptions`); none: those of the built-in table.
        group: a regular expression for what in a picture's path names its group; by default of CamVid and Cityscapes the
            sequence, of others none.
        links_into: folders that symbolic links may lead into; DVC's cache is one by itself.
        limit: only so many pictures, for a try-out: the first ones, of each given part in turn.
    """

    folder: Path
    layout: LayoutName | None = None
    images: str | None = None
    labels: str | None = None
    classes: str | Path | tuple[ClassEntry, ...] | None = None
    void: tuple[Id, ...] = ()
    void_colours: tuple[tuple[Byte, Byte, Byte], ...] = ()
    descriptions: str | Path | None = None
    group: GroupPattern | None = None
    links_into: tuple[Path, ...] = ()
    limit: int | None = Field(default=None, ge=1)


@register_scenes("label-maps")
class LabelMapSource:
    """A folder of pictures and label maps, listed."""

    Params = LabelMapParams

    def __init__(self, params: LabelMapParams) -> None:
        """List the folder and read the table of classes.

        Raises:
            DataError: no such folder or layout, no table, or label maps are of colours that no table names.
            UsageError: an unknown table or descriptions.
        """
        self.root = existing_folder(params.folder, "folder of pictures and label maps")
        self.links = Links.of(params.folder, params.links_into)
        self.found = find_pairs(self.root, params.layout, params.images, params.labels)
        pairs = self.found.pairs
        taken = first_in_turn([(one.given, None) for one in pairs], params.limit)
        self._part = told_part(len(taken), len(pairs), "the first ones, of each given part in turn")
        self.found = replace(self.found, pairs=tuple(pairs[place] for place in taken))
        self._group = params.group
        said = _table_of(self.found, params)
        self.table = class_table(said, (*params.void, *self.found.void), params.void_colours)
        texts = params.descriptions or _descriptions_of(said)
        self._described = described(self.table.classes, texts)
        self.classes = self._described.classes
        self._check_first()

    @property
    def n_scenes(self) -> int:
        """One for each picture, and for each label map without one."""
        return len(self.found.pairs)

    @property
    def notes(self) -> tuple[str, ...]:
        """The layout; pictures and label maps that stand alone; pictures in no part; classes without a description."""
        pairs = self.found.pairs
        notes: list[str] = [*self._part, f"layout {self.found.layout}"]
        alone = [pair.picture for pair in pairs if pair.picture and pair.label is None]
        orphans = [pair.label for pair in pairs if pair.label and pair.picture is None]
        for what, names in (
            ("pictures without a label map", alone),
            ("label maps without a picture", orphans),
        ):
            if names:
                notes.append(ToAct(f"{what}: {len(names):,}, the first: {spelled(str(names[0]))!r}"))
        outside = [pair.picture for pair in pairs if pair.given is None]
        if 0 < len(outside) < len(pairs):
            notes.append(f"pictures in no part of the given split: {len(outside):,}")
        if self._described.without:
            notes.append(f"classes without a description: {', '.join(self._described.without)}")
        return tuple(notes)

    def scenes(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Scene]:
        """Sorted by the pictures' paths; what cannot be used carries its failure."""
        one = partial(_scene, root=self.root, links=self.links, table=self.table, group=self._group)
        for scene in ordered_map(one, self.found.pairs, workers):
            if progress is not None:
                progress(1)
            yield scene

    def _check_first(self) -> None:
        """What is wrong with all label maps is seen at the first that can be read."""
        for pair in self.found.pairs:
            if pair.label is not None:
                try:
                    data = read_inside(self.root, pair.label, self.links)
                except DataError:
                    continue
                check_kind(data, self.table, repr(spelled(pair.label)))
                return


def _table_of(found: Found, params: LabelMapParams) -> str | Path | tuple[ClassEntry, ...]:
    said = params.classes if params.classes is not None else found.classes
    if said is None:
        hint = (
            "; ADE20K's is objectInfo150.txt, which comes with the data set: put it there, or name it"
            if found.layout == "ade20k"
            else ""
        )
        raise DataError(
            f"which classes do the label maps of {params.folder} number? Give a table (`classes: …`, --classes …): a file "
            f"with lines name,id or name,r,g,b, or a built-in one: {', '.join(BUILT_IN)}{hint}"
        )
    return said


def _descriptions_of(said: str | Path | tuple[ClassEntry, ...]) -> str | None:
    """The texts that go with a built-in table."""
    name = str(said).removesuffix("-train-ids") if isinstance(said, str) and said in BUILT_IN else ""
    return name if name in described_sets() else None


def _scene(pair: Pair, *, root: Path, links: Links, table: ClassTable, group: str | None) -> Scene:
    item_id = spelled(pair.picture or pair.label or "")
    label_file = None if pair.label is None else spelled(pair.label)
    metadata: dict[str, MetadataValue] = {
        "group": group_by(group, item_id) or pair.group,
        "label_file": label_file,
        "label": None,
    }
    if pair.problem is not None or pair.picture is None or pair.label is None:
        said = pair.problem or (
            f"the label map {label_file!r} has no picture"
            if pair.picture is None
            else "there is no label map for it"
        )
        return Scene(Item(item_id, item_id, failure=said, given=pair.given, metadata=metadata), None)
    content, failure = None, None
    try:
        content = read_inside(root, pair.picture, links)
    except DataError as error:
        failure = spelled(str(error))
    item = whole_picture(item_id, content, failure, pair.given, metadata)
    if item.failure is not None or content is None:
        return Scene(item, None)
    try:
        labels = read_labels(read_inside(root, pair.label, links), table, repr(label_file))
        _check_size(labels, item, content, label_file or "")
    except DataError as error:
        return left_out(item, spelled(str(error)))
    return scene_of(item, labels, table.classes)


def _check_size(labels: Labels, item: Item, content: bytes, label_file: str) -> None:
    """Refuse a label map of another size than its picture, upright."""
    height, width = labels.shape
    if (width, height) == (item.width_px, item.height_px):
        return
    said = f"label map {label_file!r} is {width} x {height} px, the picture {item.width_px} x {item.height_px} px"
    if (height, width) == (item.width_px, item.height_px):
        with Image.open(io.BytesIO(content)) as stored:
            is_turned = stored.size == (width, height)
        if is_turned:
            raise DataError(
                f"{said} when its EXIF orientation is applied: the label map was drawn before that; turn it, too"
            )
    raise DataError(f"{said}; a label map has the size of its picture")
