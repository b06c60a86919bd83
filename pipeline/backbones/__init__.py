"""Frozen backbones under one contract.

`describe` and `list_backbones` are light, `load` brings a model library in, `fetch` (in
`deponij.pipeline.backbones.fetch`) uses the network. Importing this package imports no model library.
"""

from deponij.pipeline.backbones.access import describe, list_backbones, load
from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.backbones.contract import Backbone, Description, FeatureMap, as_batch
from deponij.pipeline.backbones.transform import Transform

__all__ = [
    "Backbone",
    "Description",
    "FeatureMap",
    "Transform",
    "as_batch",
    "describe",
    "list_backbones",
    "load",
    "parse_spec",
]
