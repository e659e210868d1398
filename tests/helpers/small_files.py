"""Small files in the real formats of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
from PIL import Image as PILImage

from dnr_bench.results.ratings.analysis import LabelRating
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.shapes.probe import ShapesProbe
from tests.helpers.results import neuron, result

SCENES = ShapesProbe(200).load(0)


def picture(index: int, mode: str = "RGB") -> PILImage.Image:
    return PILImage.fromarray(SCENES.images[index]).convert(mode)


def encoded(image: PILImage.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photos(root: Path, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(picture(index), "JPEG" if name.lower().endswith("g") else "PNG"))


def small_broden(root: Path, n: int = 3) -> None:
    """The files of Broden: index, labels, categories, and masks as pictures of label numbers."""
    photos(root / "images", [f"ade/{i}.jpg" for i in range(n)])
    (root / "category.csv").write_text(
        "name,first,last,count,frequency\nobject,1,2,2,4\ncolor,3,4,2,4\nscene,5,5,1,1\n"
    )
    (root / "label.csv").write_text(
        "number,name,category,frequency,coverage,syns\n1,wall,object(3),3,0.2,\n2,traffic_light,object(1),1,0.1,\n"
        "3,red-c,color(3),3,0.1,\n4,blue-c,color(3),3,0.1,\n300,airport_terminal-s,scene(3),3,1,\n"
    )  # fmt: skip
    lines = ["image,split,ih,iw,sh,sw,object,color,scene"]
    for i in range(n):
        objects = np.zeros((8, 8, 3), np.uint8)
        objects[:4, :, 0] = 1
        colors = np.full((8, 8, 3), 0, np.uint8)
        colors[:, :, 0] = 3 if i % 2 else 4
        PILImage.fromarray(objects).save(root / "images" / "ade" / f"{i}_object.png")
        PILImage.fromarray(colors).save(root / "images" / "ade" / f"{i}_color.png")
        lines.append(
            f"ade/{i}.jpg,{'val' if i == 2 else 'train'},64,64,8,8,ade/{i}_object.png,ade/{i}_color.png,300"
        )
    (root / "index.csv").write_text("\n".join(lines) + "\n")


def all_files(folder: Path) -> Path:
    """A folder with a small file of every kind that members of conf/ read."""
    photos(folder / "photos", [f"class{i % 2}/{i}.jpg" for i in range(24)])
    (folder / "labels.txt").write_text("".join(f"{i}.jpg {i % 2}\n" for i in range(24)))
    (folder / "names.txt").write_text("/a/airfield 0\n/b/beach 1\n")
    small_broden(folder / "broden")
    rows = {
        "image": [{"bytes": (folder / f"photos/class0/{i}.jpg").read_bytes(), "path": None} for i in (0, 2)]
    }
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder / "dataset")
    (folder / "cifar").mkdir()
    for name, size in (("test_batch.bin", 3073), ("test.bin", 3074)):
        (folder / "cifar" / name).write_bytes(bytes(2 * size))
    for name in ("batches.meta.txt", "fine_label_names.txt"):
        (folder / "cifar" / name).write_text("apple\npear\n")
    (folder / "people.csv").write_text("layer,unit,summary\nfc,0,a red thing\n")
    result([neuron(0, ["red"], {}, layer="fc")], {}).write(folder)
    rated = LabelRating("fc:0", "red", ("DnD",), 3, 4.0, 1.0, float("nan"), 0.5)
    RatingResult("", "", "ratings", (rated,), 1.5, (), {}, (1, 1)).write(folder)
    return folder
