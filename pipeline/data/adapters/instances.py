"""From a COCO data set to items: each photograph is decoded once and all of its crops are cut from it.

Reading annotation files lives in `coco`, the geometry of a crop in `crops`.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
from PIL import Image
from pydantic import Field

from deponij.pipeline.data.adapters.annotated import with_found_names
from deponij.pipeline.data.adapters.coco import Annotation, CocoDataset, Photograph
from deponij.pipeline.data.adapters.label_maps import AUTO, LabelMap, label_maps
from deponij.pipeline.data.adapters.photographs import WHOLE_COLUMNS, whole_photographs
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, check_columns, register_source
from deponij.pipeline.data.adapters.several_files import read_several
from deponij.pipeline.data.adapters.whole import COPIED, Reading, each_picture, picture_in_file
from deponij.pipeline.data.boxes import Boxes
from deponij.pipeline.data.crops import Background, CropParams, crop_window, cut, window_mask, with_background
from deponij.pipeline.data.inside import Links, existing_folder, read_inside
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.data.parts import Treatment
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.likeness.phash import phash
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError
from deponij.store.keys import key_of_pixels

# Fast rather than small: level 6 takes several times as long to save a tenth of the bytes.
PNG_LEVEL = 1

COCO_COLUMNS = pa.schema(
    [
        ("annotation_index", pa.int64()),
        ("annotation_id", pa.int64()),
        ("category", pa.string()),
        ("supercategory", pa.string()),
        ("bbox_x", pa.float64()),
        ("bbox_y", pa.float64()),
        ("bbox_w", pa.float64()),
        ("bbox_h", pa.float64()),
        ("area_px", pa.float64()),
        ("iscrowd", pa.bool_()),
        ("image_width_px", pa.int64()),
        ("image_height_px", pa.int64()),
        ("caption", pa.string()),
    ]
)


class InstanceParams(SourceParams):
    """What becomes of annotated photographs, whatever format says so.

    Attributes:
        crop: the crops' geometry and background.
        label_maps: further columns of labels; see `label_maps.label_maps`.
        whole: no crops but whole photographs, each labelled with the set of the categories that are annotated on it.
        treat: what photographs' folders (or values of their field `split`) are whose names leave it open: `train`,
            `val`, `test`, `class` (no part), or `skip` to leave them out.
        links_into: folders that symbolic links may lead into; DVC's cache is one by itself.
    """

    crop: CropParams = CropParams()
    label_maps: tuple[str, ...] = (AUTO,)
    whole: bool = False
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()


class CocoParams(InstanceParams):
    """Where a COCO data set lies.

    Attributes:
        annotations: the annotation file, or several, whose names or folders may say which part of a split each is.
        images: the folder that `file_name` is relative to.
        boxes: the form of the files' boxes; none: COCO's own, and a file that as a whole speaks against it is refused.
    """

    annotations: Path | tuple[Path, ...]
    images: Path
    boxes: Boxes | None = None


class InstanceSource:
    """Annotated photographs, whatever format says so: an item is a crop of each instance.

    Attributes:
        is_whole: nothing is annotated, and whole pictures may be taken in the place of crops.
    """

    is_whole = False

    def __init__(
        self,
        dataset: CocoDataset,
        images: Path,
        params: InstanceParams,
        beside: Sequence[Path] = (),
    ) -> None:
        """Check what was read.

        Args:
            images: the folder that the photographs' file names are relative to.
            beside: the annotation files, whose folders they may be relative to as well.

        Raises:
            DataError: the folder or a label map is missing or damaged, or nothing is annotated.
            UsageError: an unknown label map, or one whose column is taken.
        """
        if not dataset.n_annotations and not self.is_whole:
            raise DataError(f"{dataset.path} annotates nothing, so nothing can be cropped")
        self.root = existing_folder(images, "folder of the photographs")
        folders = tuple(dict.fromkeys(path.resolve().parent for path in beside))
        self.dataset, self._name_notes = with_found_names(dataset, self.root, folders)
        self.links = Links.of(images, params.links_into)
        self.crop, self.whole = params.crop, params.whole
        self.label_maps = label_maps(params.label_maps, dataset.category_counts)
        self.metadata_schema = (
            WHOLE_COLUMNS if self.whole and not self.is_whole else coco_schema(self.label_maps)
        )
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            self._take(params.limit)

    @property
    def n_items(self) -> int:
        """One item per annotation, or per photograph."""
        return len(self.dataset.photographs) if self.whole else self.dataset.n_annotations

    @property
    def notes(self) -> tuple[str, ...]:
        """Photographs without annotations, left out or in no part; boxes that reach past their frames; rows of label
        maps that match no category.
        """
        photographs = self.dataset.photographs
        outside = [one.image_id for one in photographs if one.given is None]
        n_past = sum(_reaches_past(one, box) for one in photographs for box in one.annotations)
        counts = {
            f"photographs without an annotation{', which show none of the classes' if self.whole else ''}": sum(
                not one.annotations for one in photographs
            ),
            "photographs that are left out as asked": self.dataset.n_skipped,
            "photographs in no part of the given split": len(outside)
            if len(outside) < len(photographs)
            else 0,
            "boxes that reach past the frame, clipped to it": n_past,
        }
        notes = [*self._part, *self._name_notes, *(f"{told}: {n:,}" for told, n in counts.items() if n)]
        for label_map in self.label_maps:
            unmatched = label_map.unmatched(self.dataset.category_counts)
            if unmatched:
                missed = f"label map {label_map.name}: no category is named {', '.join(unmatched)}"
                notes.append(ToAct(missed))
        return tuple(notes)

    def picture_files(self) -> Iterator[Path]:
        """Every photograph, where these are the items."""
        if self.whole or self.is_whole:
            yield from (self.root / one.file_name for one in self.dataset.photographs if not one.problem)

    def items(
        self, *, workers: Workers = 1, progress: Progress | None = None, reading: Reading = COPIED
    ) -> Iterator[Item]:
        """See `crop_items` and `whole_photographs`."""
        if self.whole:
            return whole_photographs(
                self.dataset, self.root, self.links, workers=workers, progress=progress, reading=reading
            )
        return crop_items(
            self.dataset,
            self.root,
            self.crop,
            workers=workers,
            label_maps=self.label_maps,
            links=self.links,
            progress=progress,
        )

    def _take(self, limit: int) -> None:
        """Keep so many items: photographs or instances, one of each category (and part) in turn."""
        photographs, before = self.dataset.photographs, self.n_items
        if self.whole or self.is_whole:
            groups = [
                (one.given, one.annotations[0].category if one.annotations else None) for one in photographs
            ]
            kept = tuple(photographs[place] for place in first_in_turn(groups, limit))
        else:
            pairs = [(place, one) for place, photo in enumerate(photographs) for one in photo.annotations]
            groups = [(photographs[place].given, one.category) for place, one in pairs]
            chosen: dict[int, list[Annotation]] = {}
            for at in first_in_turn(groups, limit):
                chosen.setdefault(pairs[at][0], []).append(pairs[at][1])
            kept = tuple(
                replace(photographs[place], annotations=tuple(found)) for place, found in chosen.items()
            )
        self.dataset = replace(self.dataset, photographs=kept)
        self._part = told_part(self.n_items, before, "one of each category in turn, in the order of the file")


@register_source("coco")
class CocoSource(InstanceSource):
    """A COCO annotation file and its pictures, opened."""

    Params = CocoParams

    def __init__(self, params: CocoParams) -> None:
        """Read the annotation file.

        Raises:
            DataError: as `read_several`; or the folder or a label map is missing or damaged, or nothing is annotated.
            UsageError: an unknown label map, or one whose column is taken.
        """
        named = params.annotations
        paths = named if isinstance(named, tuple) else (named,)
        dataset = read_several(paths, boxes=params.boxes, treat=params.treat)
        self.is_whole = bool(dataset.photographs) and not dataset.n_annotations
        super().__init__(dataset, params.images, params, paths)

    @property
    def n_items(self) -> int:
        """One item per annotation; where there is none at all, one per photograph."""
        return len(self.dataset.photographs) if self.is_whole else super().n_items

    @property
    def notes(self) -> tuple[str, ...]:
        """As of all instances; and that nothing is annotated."""
        if not self.is_whole:
            return super().notes
        return (
            *self._part,
            f"nothing is annotated, so whole pictures are taken, without labels: {self.n_items:,}",
        )

    def items(
        self, *, workers: Workers = 1, progress: Progress | None = None, reading: Reading = COPIED
    ) -> Iterator[Item]:
        """Crops of instances; where nothing is annotated, the photographs as they are."""
        if not self.is_whole:
            return super().items(workers=workers, progress=progress, reading=reading)
        columns = self.metadata_schema.names
        one = partial(_whole, root=self.root, links=self.links, columns=columns, reading=reading)
        return each_picture(one, self.dataset.photographs, workers, progress)


def _whole(
    photograph: Photograph, *, root: Path, links: Links, columns: Sequence[str], reading: Reading
) -> Item:
    metadata: dict[str, MetadataValue] = dict.fromkeys(columns)
    metadata |= {"image_width_px": photograph.width_px, "image_height_px": photograph.height_px}
    return picture_in_file(
        photograph.image_id,
        root,
        photograph.file_name,
        links,
        reading,
        failure=photograph.problem,
        given=photograph.given,
        metadata=metadata,
    )


def _reaches_past(photograph: Photograph, annotation: Annotation) -> bool:
    """Whether more of a box than rounding lies outside the photograph, as far as the file tells its size."""
    if annotation.box_xywh_px is None or photograph.width_px is None or photograph.height_px is None:
        return False
    left, top, width, height = annotation.box_xywh_px
    right, bottom = photograph.width_px - left, photograph.height_px - top
    return min(left, top, right - width, bottom - height) < -1


def coco_schema(maps: Sequence[LabelMap]) -> pa.Schema:
    """Metadata columns of COCO items: `COCO_COLUMNS` and one of text per label map.

    Raises:
        UsageError: a label map is named like another column.
    """
    return check_columns(pa.schema([*COCO_COLUMNS, *((one.name, pa.string()) for one in maps)]))


def crop_items(
    dataset: CocoDataset,
    root: Path,
    params: CropParams,
    *,
    workers: Workers = 1,
    label_maps: Sequence[LabelMap] = (),
    links: Links | None = None,
    progress: Progress | None = None,
) -> Iterator[Item]:
    """One item per annotation, in the order of the file's images and of the annotations of each.

    What cannot be cut becomes an item with the reason as its `failure`. A photograph none of whose
    annotations can be cut is not decoded at all, every other one exactly once.

    Args:
        root: the photographs' folder; no file outside it is read, but where `links` may lead.
        workers: decoding threads; 0 works in the calling thread.
        label_maps: further metadata columns.
        links: None: those of `root` itself.
        progress: called with the number of items of a photograph before they are handed out.
    """
    one = partial(
        photograph_items,
        root=root.resolve(),
        params=params,
        label_maps=label_maps,
        links=links or Links.of(root),
    )
    annotated = (photograph for photograph in dataset.photographs if photograph.annotations)
    for items in ordered_map(one, annotated, workers):
        if progress is not None:
            progress(len(items))
        yield from items


def photograph_items(
    photograph: Photograph, *, root: Path, params: CropParams, label_maps: Sequence[LabelMap], links: Links
) -> list[Item]:
    """All items of one photograph.

    Args:
        root: the photographs' folder, already resolved.
    """
    problems = [
        photograph.problem or annotation.problem or _crowd(annotation, params)
        for annotation in photograph.annotations
    ]
    image, failure = None, None
    if not all(problems):
        try:
            image = _upright(photograph, root, links)
            photograph = photograph.in_pixels(image.size)
        except DataError as error:
            failure = str(error)
    items = []
    for annotation, problem in zip(photograph.annotations, problems, strict=True):
        blank = Item(
            item_id=photograph.item_id(annotation),
            image_id=photograph.image_id,
            given=photograph.given,
            failure=problem or failure,
            metadata=_metadata(photograph, annotation, label_maps),
        )
        items.append(
            blank if blank.failure or image is None else _with_crop(blank, image, annotation, params)
        )
    return items


def _crowd(annotation: Annotation, params: CropParams) -> str | None:
    if annotation.is_crowd and not params.keep_crowds:
        return (
            "the annotation is a crowd (iscrowd): it marks many instances, not one; where a tool marks every mask so, "
            "cut them all the same (--keep-crowds, `crop: {keep_crowds: true}` in a profile)"
        )
    return None


def _upright(photograph: Photograph, root: Path, links: Links) -> Image.Image:
    """The decoded photograph, if it has the size that its boxes are drawn for.

    Raises:
        DataError: it cannot be read, or has another size.
    """
    image = decode(read_inside(root, photograph.file_name, links))
    annotated_size(photograph, image.size)
    return image


def annotated_size(photograph: Photograph, size_px: tuple[int, int]) -> None:
    """Refuse a picture of another size than a photograph's boxes and outlines are drawn for.

    Args:
        size_px: (width, height) of the picture, upright.

    Raises:
        DataError: the message says what may have happened to it.
    """
    if photograph.width_px is None or photograph.height_px is None:
        return
    width, height = photograph.width_px, photograph.height_px
    if (width, height) == size_px:
        return
    shown = f"annotated as {width} x {height} px, but upright the picture has {size_px[0]} x {size_px[1]} px"
    if (height, width) == size_px:
        raise DataError(f"{shown}: its boxes are drawn before its EXIF rotation, or its sizes are swapped")
    if max(abs(width - size_px[0]), abs(height - size_px[1])) == 1:
        raise DataError(
            f"{shown}: one pixel off, as by a program that rounds sizes otherwise; correct width and height in the "
            "annotation file, or leave both out if the boxes fit the picture as it is"
        )
    scale = size_px[0] / width
    if abs(height * scale - size_px[1]) <= max(1.0, scale):
        raise DataError(
            f"{shown}: a copy at {scale:.3g} of the annotated size; get the original or scale the annotations"
        )
    raise DataError(f"{shown}: it is another picture, or only a part of it")


def _with_crop(item: Item, image: Image.Image, annotation: Annotation, params: CropParams) -> Item:
    try:
        crop = _crop(image, annotation, params)
    except DataError as error:
        return replace(item, failure=str(error))
    return replace(
        item,
        content=encode_png(crop),
        key=key_of_pixels(crop.mode, crop.size, crop.tobytes()),
        width_px=crop.width,
        height_px=crop.height,
        phash=phash(crop),
    )


def _crop(image: Image.Image, annotation: Annotation, params: CropParams) -> Image.Image:
    if annotation.box_xywh_px is None:
        raise DataError("the annotation has no box")
    window = crop_window(annotation.box_xywh_px, image.size, params)
    crop = cut(image, window)
    if params.background is Background.KEEP:
        return crop
    return with_background(crop, window_mask(annotation.segmentation, window, image.size), params.background)


def encode_png(image: Image.Image) -> bytes:
    """Lossless bytes of a crop, the same for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _metadata(
    photograph: Photograph, annotation: Annotation, maps: Sequence[LabelMap]
) -> dict[str, MetadataValue]:
    category = annotation.category
    name = None if category is None else category.name
    # Shares of a picture that was never decoded are no pixels.
    box = None if photograph.is_in_shares else annotation.box_xywh_px
    left, top, width, height = box or (None, None, None, None)
    return {
        "annotation_index": annotation.index,
        "annotation_id": annotation.annotation_id,
        "category": name,
        "supercategory": None if category is None else category.supercategory,
        "bbox_x": left,
        "bbox_y": top,
        "bbox_w": width,
        "bbox_h": height,
        "area_px": annotation.area_px,
        "iscrowd": annotation.is_crowd,
        "image_width_px": photograph.width_px,
        "image_height_px": photograph.height_px,
        "caption": annotation.caption,
        **{one.name: one.label_of(name) for one in maps},
    }
