"""Features as somebody writes them in twenty lines, without Deponij: a DataLoader, the model library, `np.save`.

    python benchmarks/plain_script.py FAMILY MODEL PICTURES OUT.npy BATCH WORKERS THREADS

FAMILY: `transformers`, `open_clip` or `timm`; MODEL: a folder; PICTURES: a folder of files, or a JSON list of
[file, x0, y0, x1, y1] of crops. What `benchmarks/plain.py` measures Deponij against.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset


def model_of(family: str, folder: str) -> tuple[Any, Any]:
    """A function of a batch, and the transform of a picture."""
    if family == "transformers":
        from transformers import AutoImageProcessor, AutoModel

        model, processor = (
            AutoModel.from_pretrained(folder).eval(),
            AutoImageProcessor.from_pretrained(folder),
        )
        return lambda batch: model(batch).pooler_output, lambda image: processor(image, return_tensors="pt")[
            "pixel_values"
        ][0]
    if family == "open_clip":
        import open_clip

        model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        return model.eval().encode_image, transform
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    return model, timm.data.create_transform(**timm.data.resolve_model_data_config(model))


class Pictures(Dataset[torch.Tensor]):
    """Files, or crops of files."""

    def __init__(self, named: Path, transform: Any) -> None:
        self.transform = transform
        crops = json.loads(named.read_text()) if named.is_file() else None
        self.places = crops or [[str(path)] for path in sorted(named.rglob("*.*"))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> torch.Tensor:
        path, *box = self.places[number]
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        tensor: torch.Tensor = self.transform(image.crop(box) if box else image)
        return tensor


def main() -> None:
    family, folder, pictures, out, batch, workers, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    embed, transform = model_of(family, folder)
    loader = DataLoader(Pictures(Path(pictures), transform), int(batch), num_workers=int(workers))
    with torch.inference_mode():
        np.save(out, np.concatenate([embed(one).numpy() for one in loader]))


if __name__ == "__main__":
    main()
