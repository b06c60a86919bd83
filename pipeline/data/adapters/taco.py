"""TACO (Trash Annotations in Context, http://tacodataset.org) as its own download lays it out.

`annotations.json` lies beside the folders `batch_1`, `batch_2`, ... that its file names begin with.
Fetching it lives elsewhere; any other COCO file goes through `instances`.
"""

from pathlib import Path

from deponij.pipeline.data.adapters.instances import CocoParams, CocoSource
from deponij.pipeline.data.adapters.label_maps import BUILT_IN
from deponij.pipeline.data.adapters.registry import SourceParams, register_source
from deponij.pipeline.data.crops import CropParams
from deponij.store.errors import DataError

ANNOTATION_FILE = "annotations.json"

# The official annotation file of 2019-12-19.
N_IMAGES = 1_500
N_INSTANCES = 4_784
N_CATEGORIES = 60
N_POOL = 4_779


class TacoParams(SourceParams):
    """Where TACO lies and how its crops are cut.

    Attributes:
        root: the folder with `annotations.json` and the batches.
        crop: the crops' geometry and background.
        label_maps: further columns of labels; see `label_maps.label_maps`.
    """

    root: Path
    crop: CropParams = CropParams()
    label_maps: tuple[str, ...] = tuple(BUILT_IN)


@register_source("taco")
class TacoSource(CocoSource):
    """TACO, opened: a COCO data set with the columns `taco10` and `taco56`."""

    Params = TacoParams  # type: ignore[assignment]

    def __init__(self, params: TacoParams) -> None:
        """Read the annotation file.

        Raises:
            DataError: it is missing (the message says how to get it) or damaged.
        """
        annotations = params.root / ANNOTATION_FILE
        if not annotations.is_file():
            raise DataError(
                f"TACO is not at {params.root}: there is no {ANNOTATION_FILE}. With a network, "
                f"`deponij data fetch taco --root {params.root}` gets it; without one, copy TACO's "
                f"{ANNOTATION_FILE} and its folders batch_1, batch_2, ... there"
            )
        super().__init__(
            CocoParams(
                annotations=annotations,
                images=params.root,
                crop=params.crop,
                label_maps=params.label_maps,
                limit=params.limit,
            )
        )
