"""Pictures that are named to be answered, beside what `predict` says of them."""

from pathlib import Path

from coco_made import noise

from deponij.pipeline.data.inside import MAX_PICTURE_BYTES
from deponij.project.new_pictures import named_pictures


def test_a_file_that_is_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    for seed, name in enumerate(("1.png", "2.png")):
        noise(12, 10, seed).save(tmp_path / name)
    with (tmp_path / "1.png").open("r+b") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    large, sound = named_pictures([tmp_path], None, None, {}).read(1)
    assert large.content is None
    assert "are read as a picture" in str(large.failure)
    assert (sound.failure, sound.content) == (None, (tmp_path / "2.png").read_bytes())
