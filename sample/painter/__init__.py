"""The generated sample: litter-like scenes with COCO annotations and captions, drawn from a seed.

`generate` writes it; `is_drawn` knows it again; `render` draws one scene; `NAMES` are its classes. The task is
made to be learnable but not trivial: objects are small, cut off, crushed, dirty, recoloured and lie over each
other.
"""

from deponij.sample.painter.categories import CATEGORIES, NAMES, Category
from deponij.sample.painter.scene import Instance, Scene, render
from deponij.sample.painter.writer import generate, is_drawn

__all__ = ["CATEGORIES", "NAMES", "Category", "Instance", "Scene", "generate", "is_drawn", "render"]
