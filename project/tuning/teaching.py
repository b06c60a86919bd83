"""A backbone that teaches another one: its features, and the probe that says classes by them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deponij.pipeline.backbones import load
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.tuning.data import Numbers, TuningData
from deponij.project.tuning.params import Recipe

if TYPE_CHECKING:
    from deponij.pipeline.tuning.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Teaching:
    """Who teaches."""

    backbone: FoundBackbone

    def teacher(self, data: TuningData, rows: Numbers, student: FoundBackbone, recipe: Recipe) -> "Teacher":
        """What it says of pictures: of its stored features where nothing draws, else of each batch.

        Args:
            data: with the teacher's features.
            rows: int64 [m], of the items to be learned from, whose numbers are those of this list.
        """
        import torch

        from deponij.pipeline.tuning.network import Network
        from deponij.pipeline.tuning.teacher import Renormalised, Teacher
        from deponij.pipeline.tuning.tower import Tower

        features = data.of_teacher
        assert features is not None, "read with its features"
        mean, scale, weight, bias = data.probe(features)
        if not recipe.draws:
            place_of = {row: place for place, row in enumerate(data.rows.tolist())}
            places = [place_of[row] for row in rows.tolist()]
            known = (features[places].astype(np.float32) - mean) / scale @ weight.T + bias
            return Teacher(None, torch.from_numpy(known.astype(np.float32)))
        begun = (torch.from_numpy(one) for one in (mean, scale, weight, bias))
        network = Network(Tower(load(self.backbone.spec, input_px=self.backbone.input_px)), *begun)
        own, theirs = student.description.transform, self.backbone.description.transform
        return Teacher(Renormalised(network, (own.mean, own.std), (theirs.mean, theirs.std), theirs.input_px))
