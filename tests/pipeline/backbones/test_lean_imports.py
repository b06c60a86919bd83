"""A model comes without torch's compiler and transformers, computes the same, and both are whole afterwards."""

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
# A text tower of transformers' own, in open_clip after it was imported without; another thread has it all along.
OPEN_CLIP = """
import sys, threading
from deponij.pipeline.backbones.lean_imports import _Absent, lean_open_clip
open_clip = lean_open_clip()
from open_clip.model import HFTextEncoder
assert "transformers" not in sys.modules and open_clip.hf_model.transformers is None
assert lean_open_clip() is open_clip
here = _Absent()
try:
    here.find_spec("transformers", None)
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("it was to be absent")
found = []
other = threading.Thread(target=lambda: found.append(here.find_spec("transformers", None)))
other.start(); other.join()
assert found == [None]
import torch, transformers
small = {"vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
config = transformers.RobertaConfig(**small, intermediate_size=16)
config.save_pretrained(sys.argv[1])
encoder = HFTextEncoder(sys.argv[1], 8, pooler_type="mean_pooler", proj_type="linear", pretrained=False)
assert isinstance(encoder, HFTextEncoder) and open_clip.hf_model.transformers is transformers
assert HFTextEncoder.__init__.__module__ == "open_clip.hf_model"
assert encoder(torch.tensor([[0, 5, 6, 2]])).shape == (1, 8)
print("whole")
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


@pytest.mark.slow
def test_open_clip_gets_transformers_when_it_is_wanted(tmp_path: Path) -> None:
    assert said(OPEN_CLIP, tmp_path) == ["whole"]
