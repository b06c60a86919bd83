"""A model comes without torch's compiler, computes the same, and the compiler is whole afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch

from deponij.pipeline.backbones import describe

ROOT = Path(__file__).resolve().parents[3]
LOAD = """
import hashlib, sys, torch
torch.set_num_threads(1)
real = torch.compiler.disable
if sys.argv[2] == "with":
    import torch._dynamo.utils
from deponij.pipeline.backbones import load
model = load(sys.argv[1])
height, width = model.description.input_px
rows = model.embed_images(torch.linspace(-1, 1, 3 * height * width).view(1, 3, height, width))
print("torch._dynamo" in sys.modules, torch.compiler.disable is real, hashlib.sha256(rows.numpy()).hexdigest())
"""
AFTERWARDS = """
import torch
from deponij.pipeline.backbones.lean_imports import without_compiler
with without_compiler():
    import torchvision
    import timm
    from torch._dynamo.utils import is_compile_supported as put_off, is_node_meta_valid
import torch._dynamo.utils
assert is_node_meta_valid is torch._dynamo.utils.is_node_meta_valid
assert put_off("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 2).shape == (1, 1, 2, 2)
assert torch.compiler.disable(len) is not len
with without_compiler():  # the compiler is there: nothing to put off
    assert torch.compiler.disable(len) is not len
print("whole")
"""


def said(code: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("maker", ["open_clip_convnext", "timm_resnet"])
def test_the_same_bits_without_the_compiler(maker: str, shelf: tiny_models.Shelf) -> None:
    folder = shelf[maker]
    describe(str(folder))  # remembered: to read it off the model on the meta device torch needs the compiler
    loaded, untouched, bits = said(LOAD, folder, "without")
    assert (loaded, untouched) == ("False", "True")
    assert said(LOAD, folder, "with") == ["True", "True", bits]


@pytest.mark.slow
def test_the_compiler_is_whole_afterwards() -> None:
    assert said(AFTERWARDS) == ["whole"]


def test_an_import_that_fails_leaves_torch_as_it_was() -> None:
    from deponij.pipeline.backbones import lean_imports

    real = torch.compiler.disable
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
        with pytest.raises(ImportError), lean_imports.without_compiler():
            assert torch.compiler.disable is not real
            raise ImportError
        assert torch.compiler.disable is real
        assert "torch._dynamo.utils" not in sys.modules
