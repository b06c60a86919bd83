"""One backbone tuned on items and judged: what the stage `finetune` does for a recipe, and `deponij tune`.

What learns, and how it is written, is the business of `deponij.pipeline.tuning`; what a training is, of
`deponij.pipeline.training`. What a tuned backbone has learned from lies in its folder (`deponij.project.extraction.tuned_on`).

Shape letters: n pictures, d width of the embedding, C classes, h and w sides of the input.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones import load
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.logistic import Logistic
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.training.loop import Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.tuning.learning import groups, set_learning
from deponij.pipeline.tuning.network import Network
from deponij.pipeline.tuning.saved import tuned_files
from deponij.pipeline.tuning.tower import Tower
from deponij.project.extraction.tuned_on import learned_from_table
from deponij.project.frame.console import note, say
from deponij.project.learning.results import judge, read_examples, write_results
from deponij.project.training_bar import training_bar
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import Pictures, decoded
from deponij.project.tuning.task import NamingTask
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.sealed import sha256_of
from deponij.store.view import View

if TYPE_CHECKING:
    from torch import Tensor
