"""A network that learns is one graph to torch's compiler, whatever its family: nothing of it falls back to Python."""

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from tuning_world import pixels_for

from deponij.pipeline.backbones import load
from deponij.pipeline.tuning.learning import LearningParams, let_learn
from deponij.pipeline.tuning.network import Network
from deponij.pipeline.tuning.tower import Tower


@pytest.mark.parametrize("name", ["new:atresnet-18@32", "new:test_resnet@32", "dinov2", "open_clip_vit"])
def test_it_is_one_graph(
    shelf: tiny_models.Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Traced alone, which needs no C++ compiler."""
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path))
    torch.compiler.reset()
    tower = Tower(load(name if name.startswith("new:") else str(shelf[name])))
    let_learn(tower, LearningParams(way="full"))
    d = tower.backbone.description.dim
    network = Network(tower, torch.zeros(d), torch.ones(d), torch.ones(2, d), torch.zeros(2)).train()
    names, pixels = list(network.state_dict()), pixels_for(tower.backbone)
    wanted = network(pixels)
    n_graphs = 0

    def traced(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        nonlocal n_graphs
        n_graphs += 1
        return graph.forward

    network.compile(backend=traced, fullgraph=True)
    found = network(pixels)
    found.sum().backward()
    assert n_graphs == 1
    torch.testing.assert_close(found, wanted)
    assert list(network.state_dict()) == names
    assert all(one.grad is not None for one in tower.parts().values())
