"""Networks that see the pictures: what learns, what stays as it was, and that they learn at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import street_world
import tiny_models
import torch
from PIL import Image
from street_world import HEIGHT_PX, WIDTH_PX, Street

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.transform import Transform
from deponij.project.segmentation import learn
from deponij.project.segmentation.drawing import Cut
from deponij.project.segmentation.learn import Running, asked_of
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.pictures import PictureScenes
from deponij.project.segmentation.whole import Encoder, encoder_of, from_nothing, learn_whole
from deponij.store.errors import UsageError
from deponij.store.reading import Window
from deponij.store.scenes import Scenes

INPUT_PX = (HEIGHT_PX, WIDTH_PX)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return street_world.make(tmp_path_factory.mktemp("street"))


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.Shelf(tmp_path_factory.mktemp("models"))["timm_resnet"])


def learned(
    street: Street,
    encoder: Encoder,
    section: dict[str, Any] | None = None,
    out: Path | None = None,
    **training: Any,
) -> Any:
    given = DecodersParams.model_validate(
        {
            "methods": {"ours": {"decoder": "fpn", "arguments": {"width": 8}}},
            "training": {"epochs": 2, "batch_size": 4, "lr": 0.01} | training,
            **(section or {}),
        }
    )
    (asked,) = asked_of(given, with_words=False)
    unfinished = None if out is None else out.with_name("unfinished")
    running = Running(n_threads=1, unfinished=unfinished, keeps_time=False)
    return learn_whole(asked, given, street.scenes, encoder, running=running, out=out)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, values in module.state_dict().items() if not torch.equal(values, before[name])}


def test_pictures_are_cut_and_mirrored_as_the_transform_makes_them(street: Street) -> None:
    transform: Transform = from_nothing(INPUT_PX).transform
    source = PictureScenes(Scenes(street.scenes), transform, 32)
    window = Window(1, 0, 1, 2)
    wanted = [Cut("3.png", window), Cut("4.png", window, True)]
    ((batch, pixels),) = source.batches([wanted])
    assert batch == wanted and tuple(pixels.shape) == (2, 3, 32, 64)
    whole = [np.asarray(transform.apply(Image.open(_bytes(number)).convert("RGB"))) for number in (3, 4)]
    np.testing.assert_array_equal(pixels[0], whole[0][:, 32:64, :64])
    np.testing.assert_array_equal(pixels[1], whole[1][:, :, ::-1][:, 32:64, :64])


def _bytes(number: int) -> Any:
    import io

    return io.BytesIO(street_world.picture_of(number))


def test_from_nothing_it_learns(street: Street) -> None:
    torch.manual_seed(0)
    result = learned(street, from_nothing(INPUT_PX), epochs=8)
    test = result.parts["test"]
    assert test.miou > 2 * test.majority_miou
    assert result.windows == "encoded" and "the whole network learns" in result.protocol


@pytest.mark.parametrize("learns", ["none", "last", "all"])
def test_only_what_shall_learn_does(street: Street, tower: str, learns: Any) -> None:
    encoder = encoder_of(tower, INPUT_PX, learns, levels=3)
    before = weights(encoder.module)
    result = learned(street, encoder)
    moved = changed(before, encoder.module)
    learning = {name for name, one in encoder.module.named_parameters() if one.requires_grad}
    n_encoder = sum(one.numel() for one in encoder.module.parameters() if one.requires_grad)
    assert result.n_weights > n_encoder
    if learns == "none":
        assert moved == set() == learning
    else:
        assert learning and learning <= moved
        assert learns == "all" or learning < set(dict(encoder.module.named_parameters()))


def test_levels_are_those_of_the_maps(tower: str) -> None:
    encoder = encoder_of(tower, INPUT_PX, "none", levels=3)
    maps = load(tower, input_px=INPUT_PX).dense(torch.zeros(1, 3, *INPUT_PX), blocks=3)
    assert [one.channels for one in encoder.levels] == [one.values.shape[1] for one in maps]
    assert [one.stride_px for one in encoder.levels] == [one.stride_px for one in maps]


def test_the_same_seed_gives_the_same_figures(street: Street, tower: str, tmp_path: Path) -> None:
    first, second = (learned(street, encoder_of(tower, INPUT_PX, "all", levels=3)) for _ in range(2))
    assert first.parts == second.parts


def test_the_protocol_says_all_that_shaped_the_figures(
    street: Street, tower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**section: Any) -> str:
        encoder = encoder_of(tower, INPUT_PX, "none", levels=3)
        return str(learned(street, encoder, section, epochs=1).protocol)

    assert told().endswith(
        "the decoder alone learns on train, whole pictures, half of them mirrored; 1 epochs, the best on val kept"
    )
    said = told(both_ways=True, class_weights=0.5, loss="boundary", window_px=(32, 64))
    assert "windows of 32x64 px, encoded as such" in said
    assert said.endswith(
        "pixels near the borders of classes count more; rare classes count more (1 / share to the power of 0.5); answers "
        "are means of both ways"
    )
    real = Scenes.ids
    monkeypatch.setattr(Scenes, "ids", lambda self, part: [] if part == "val" else real(self, part))
    assert "the last weights kept" in told()


def test_an_interrupted_training_leaves_the_same_bytes(
    street: Street, tower: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def into(folder: Path) -> dict[str, bytes]:
        learned(street, encoder_of(tower, INPUT_PX, "last", levels=3), None, folder / "ours", epochs=3)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    expected = into(tmp_path / "whole")
    assert {"ours/decoder.json", "ours.encoder/model.safetensors"} <= set(expected)
    real = learn.train

    def pulled(*args: Any, **named: Any) -> Any:
        told = named["on_step"]

        def stop(step: Any) -> None:
            told(step)
            if step.done == 5:
                raise KeyboardInterrupt

        return real(*args, **(named | {"on_step": stop, "checkpoint_s": 0}))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(learn, "train", pulled)
        into(tmp_path / "again")
    assert (tmp_path / "again" / "unfinished").is_dir()
    assert into(tmp_path / "again") == expected


def test_what_could_not_be_written_is_refused_before_it_learns(street: Street, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name new:resnet-18 in its place"):
        learned(street, from_nothing(INPUT_PX), None, tmp_path / "ours")
