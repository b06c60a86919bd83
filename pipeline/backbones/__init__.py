"""Frozen backbones under one contract.

`describe` and `list_backbones` are light, `load` brings a model library in, `fetch` (in
`pipeline.backbones.fetch`) uses the network. Importing this package imports no model library.
"""

from pipeline.backbones import dinov2, open_clip, siglip, timm  # families register themselves
from pipeline.backbones.access import describe, list_backbones, load
from pipeline.backbones.catalog import parse_spec
from pipeline.backbones.contract import Backbone, Description, FeatureMap, as_batch
from pipeline.backbones.transform import Transform

__all__ = [
    "Backbone",
    "Description",
    "FeatureMap",
    "Transform",
    "as_batch",
    "describe",
    "dinov2",
    "list_backbones",
    "load",
    "open_clip",
    "parse_spec",
    "siglip",
    "timm",
]
