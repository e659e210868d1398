"""Probing sets from files: every format for real, and files that are broken in many ways."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image as PILImage

from dnr_bench.app.composition import load_config
from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.probes.decoding import UnreadableImageError, check, decode
from dnr_bench.protocols import Probe
from tests.helpers.building import build
from tests.helpers.small_files import SCENES, encoded, photos, picture, small_broden

MOST = 10_000_000
WHITE = (255, 255, 255)


def load(folder: Path, *overrides: str) -> ProbeSet:
    words = [f"paths.store={folder.parent / 'store'}", *overrides]
    return build(load_config(*words).probe, Probe, "probe").load(0)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + head, b"IDAT" + zlib.compress(bytes(100))]
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def broken(way: int, index: int) -> tuple[str, bytes | None]:
    """A file name and its content in one of ten ways; None: a link to nowhere."""
    png, jpeg = encoded(picture(index), "PNG"), encoded(picture(index), "JPEG", quality=90)
    middle = len(png) // 2
    return [
        ("empty.png", b""),
        ("cut.jpg", jpeg[: len(jpeg) // 3]),
        ("cut.png", png[:middle]),
        ("text.jpg", b"this is no picture\n" * 40),
        ("noise.png", np.random.default_rng(index).bytes(3000)),
        ("damaged.png", png[:middle] + bytes(64) + png[middle + 64 :]),
        ("bomb.png", bomb()),
        ("nowhere.jpg", None),
        ("floats.tif", encoded(PILImage.fromarray(np.random.default_rng(0).random((40, 40))), "TIFF")),
        ("header.gif", encoded(picture(index, "P"), "GIF")[:20]),
    ][way]


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """200 files, 20 of them broken in ten ways."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(180):
        (folder / f"{index:03}.png").write_bytes(encoded(picture(index), "PNG"))
    for index in range(20):
        name, content = broken(index % 10, index)
        if content is None:
            (folder / f"x{index:02}-{name}").symlink_to(folder / "gone.jpg")
        else:
            (folder / f"x{index:02}-{name}").write_bytes(content)
    return folder


def test_twenty_broken_images_of_two_hundred_are_listed_with_their_reasons(spoiled: Path) -> None:
    found = load(spoiled, "probe=folder", f"probe.path={spoiled}")
    assert len(found.ids) == 180
    assert np.array_equal(found.images[7], SCENES.images[7])
    reasons = {item.name.partition("-")[2]: item.reason for item in found.skipped}
    assert len(found.skipped) == 20
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["text.jpg"] == reasons["noise.png"] == "it is in no known image format"
    assert reasons["bomb.png"] == f"it has more pixels than max_pixels={89_000_000}"
    assert reasons["nowhere.jpg"] == "No such file or directory"
    assert reasons["floats.tif"].startswith("floating-point")
    assert all(reasons.values())


@pytest.mark.slow
def test_a_run_on_a_spoiled_folder_completes_and_lists_them(
    spoiled: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    words = ["probe=folder", f"probe.path={spoiled}", "generator=renderer", "images_per_concept=2"]
    words += ["neurons.layers=[concepts]", "neurons.units=[0,9]", "evaluator=[planted]"]
    done = command_line(words)
    assert done.returncode == 0, done.stderr
    assert "20 images of the probing set could not be read" in done.stdout
    result = json.loads(next((tmp_path / "mlruns" / "runs").glob("*/result.json")).read_text())
    assert result["probe"]["images"] == 180
    assert len({item["name"] for item in result["probe"]["skipped"]}) == 20
    with pytest.raises(RunError, match=r"20 images of the folder .*; and 15 more\. probe\.on_error=skip"):
        load(spoiled, *words[:2], "probe.on_error=error")


def test_files_are_decoded_for_the_check_only_once_until_they_change(spoiled: Path) -> None:
    words = ["probe=folder", f"probe.path={spoiled}"]
    before = load(spoiled, *words)
    files = [path for path in (spoiled.parent / "store").rglob("*") if path.is_file()]
    notes = {path: path.stat().st_mtime_ns for path in files}
    again = load(spoiled, *words)
    assert again.ids == before.ids
    assert {path: path.stat().st_mtime_ns for path in notes} == notes
    (spoiled / "003.png").write_bytes(b"")
    assert len(load(spoiled, *words).skipped) == 21


def test_arrays_with_broken_or_boastful_headers_are_skipped(tmp_path: Path) -> None:
    buffer = BytesIO()
    np.save(buffer, np.zeros((20, 20, 3), np.uint8))
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(whole)
        for place in rng.integers(6, 90, 4):
            spoiled[place] = rng.integers(256)
        with suppress(UnreadableImageError):  # and nothing else
            decode(bytes(spoiled), MOST, WHITE)
    boast = BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (999_999, 999_999, 3)}
    np.lib.format.write_array_header_1_0(boast, header)
    with pytest.raises(UnreadableImageError, match="pixels"):
        decode(boast.getvalue(), MOST, WHITE)


def test_a_disk_that_recovers_gives_its_images_back(spoiled: Path) -> None:
    words = ["probe=folder", f"probe.path={spoiled}"]
    assert len(load(spoiled, *words).ids) == 180
    (spoiled / "gone.jpg").write_bytes(encoded(picture(199), "JPEG"))  # where two links lead
    found = load(spoiled, *words)
    assert len(found.ids) == 181  # two names of one image
    assert len(found.skipped) == 18


def test_file_names_in_other_encodings_are_read_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate([b"caf\xe9.png", b"b.png", b"c\xff.png"]):
        content = encoded(picture(index), "PNG") if index < 2 else b"no"
        (folder / os.fsdecode(name)).write_bytes(content)
    found = load(folder, "probe=folder", f"probe.path={folder}")
    assert len(found.ids) == 2
    (item,) = found.skipped
    json.dumps(item.name).encode()
    assert item.name == "c\ufffd.png"


def test_a_file_that_changes_afterwards_ends_with_one_message(spoiled: Path) -> None:
    found = load(spoiled, "probe=folder", f"probe.path={spoiled}")
    (spoiled / "000.png").unlink()
    with pytest.raises(RunError, match=r"000\.png has changed since it was checked"):
        found.images[0]


def test_subsets_follow_the_seed_and_avoid_what_is_broken(spoiled: Path) -> None:
    words = ["probe=folder", f"probe.path={spoiled}", "probe.n_images=150"]
    found = load(spoiled, *words)
    assert len(found.ids) == len(set(found.ids)) == 150
    assert load(spoiled, *words).ids == found.ids
    other = build(load_config(*words, f"paths.store={spoiled.parent}").probe, Probe, "probe").load(1)
    assert set(other.ids) != set(found.ids)
    with pytest.raises(UsageError, match="180 different images that can be read, and 190 are asked for; 20"):
        load(spoiled, "probe=folder", f"probe.path={spoiled}", "probe.n_images=190")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("P", "PNG"), ("L", "JPEG"), ("LA", "PNG"),
     ("RGBA", "PNG"), ("1", "TIFF"), ("YCbCr", "JPEG"), ("RGB", "WEBP"), ("RGB", "JPEG2000")],
)  # fmt: skip
def test_every_color_mode_becomes_rgb(mode: str, kind: str) -> None:
    content = encoded(picture(3, mode), kind)
    pixels = decode(content, MOST, WHITE).pixels
    assert (pixels.shape, pixels.dtype) == ((64, 64, 3), np.uint8)
    with PILImage.open(BytesIO(content)) as image:
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def refusal(read: Callable[[bytes, int, tuple[int, int, int]], object], content: bytes) -> str | None:
    try:
        read(content, MOST, WHITE)
    except UnreadableImageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_the_check_of_a_jpeg_refuses_what_decoding_refuses(mode: str, progressive: bool) -> None:
    content = encoded(picture(3, mode), "JPEG", progressive=progressive)
    random = np.random.default_rng(0)
    assert refusal(check, content) is None
    refusals = []
    for n_wrong in [0] * 40 + [1, 3, 10] * 20:
        damaged = bytearray(content)
        if not n_wrong:
            damaged = damaged[: random.integers(3, len(content))]
        for place in random.integers(3, len(content), n_wrong):
            damaged[place] = random.integers(256)
        refusals.append(refusal(decode, bytes(damaged)))
        assert refusal(check, bytes(damaged)) == refusals[-1]
    assert None in refusals
    assert len(set(refusals)) >= 3


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encoded(PILImage.fromarray(ramp), kind), MOST, WHITE).pixels
        assert np.abs(pixels[..., 0].astype(int) - ramp / 257).max() <= 0.51


def test_of_an_animation_the_first_frame_counts() -> None:
    content = encoded(picture(1, "P"), "GIF", save_all=True, append_images=[picture(2, "P")])
    pixels = decode(content, MOST, WHITE).pixels.astype(int)
    assert np.abs(pixels - np.asarray(picture(1, "P").convert("RGB"))).max() <= 1


def see_through(kind: str) -> tuple[bytes, np.ndarray]:
    """A red square on nothing, below which the file hides green; and where the square is."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., 1] = 200
    pixels[10:30, 10:30] = (250, 0, 0, 255)
    picture = PILImage.fromarray(pixels, "RGBA")
    if kind == "GIF":
        picture = picture.convert("P")
        picture.info["transparency"] = picture.getpixel((0, 0))
    elif kind == "palette PNG":
        picture = picture.quantize(4)
    options = {"transparency": picture.info["transparency"]} if "transparency" in picture.info else {}
    return encoded(picture, kind.split()[-1], lossless=True, **options), pixels[..., 3] > 0


@pytest.mark.parametrize("kind", ["PNG", "palette PNG", "GIF", "WEBP", "TIFF"])
def test_transparent_areas_are_laid_on_the_background(kind: str, recwarn: pytest.WarningsRecorder) -> None:
    content, square = see_through(kind)
    for background in (WHITE, (0, 0, 90)):
        found = decode(content, MOST, background)
        assert found.transparent
        assert np.all(found.pixels[~square] == background)
        assert np.all(np.abs(found.pixels[square].astype(int) - (250, 0, 0)) <= 6)
    assert not recwarn


def test_transparent_images_are_told_once_and_have_ids_of_their_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        image = PILImage.fromarray(np.full((20, 20, 4), 40 * number, np.uint8), "RGBA")
        image.save(tmp_path / f"{number}.png")
    words = ["probe=folder", f"probe.path={tmp_path}"]
    white = load(tmp_path, *words)
    told = [record for record in caplog.records if "transparent" in record.getMessage()]
    assert [record.getMessage() for record in told] == [
        f"5 images of the folder {str(tmp_path)!r} have transparent areas,"
        " which are laid on white (background)"
    ]
    black = load(tmp_path, *words, "probe.background=black")
    assert not set(white.ids) & set(black.ids)
    assert white.images[4].mean() > black.images[4].mean()
    with pytest.raises(UsageError, match=r"probe.background='whitish' is no color; it can be a name"):
        load(tmp_path, *words, "probe.background=whitish")


def test_tiles_as_arrays(tmp_path: Path) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (3, 50, 60, 4), dtype=np.uint8)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for index, tile in enumerate(tiles):
        np.save(folder / f"{index}.npy", np.moveaxis(tile, -1, 0) if index == 2 else tile)
    np.save(folder / "3.npy", tiles[0].astype(float))
    np.save(folder / "4.npy", np.array([{}], object))
    found = load(folder, "probe=naip", f"probe.path={folder}")
    assert all(np.array_equal(found.images[i], tiles[i][..., :3]) for i in range(3))
    assert [item.name for item in found.skipped] == ["3.npy", "4.npy"]
    with pytest.raises(UnreadableImageError, match="more than max_pixels=100"):
        decode((folder / "0.npy").read_bytes(), 100, WHITE)


def test_imagenets_two_layouts(tmp_path: Path) -> None:
    root, flat = tmp_path / "val", tmp_path / "flat"
    photos(root, ["n01440764/a.JPEG", "n01443537/b.JPEG", "n01440764/c.JPEG"])
    (tmp_path / "names.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    )
    words = ["probe=imagenet_val", f"probe.path={root}", f"probe.class_names={tmp_path / 'names.txt'}"]
    assert load(root, *words).classes == ["tench", "tench", "goldfish"]
    photos(flat, ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"])
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 85 1 499 272 \n"
        "ILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8 \n"
    )
    words[1] = f"probe.path={flat}"
    words.append(f"probe.labels={tmp_path / 'LOC_val_solution.csv'}")
    assert load(flat, *words).classes == ["goldfish", "tench"]


def test_places365_and_eurosat(tmp_path: Path) -> None:
    places, euro = tmp_path / "val_256", tmp_path / "EuroSAT"
    photos(places, ["Places365_val_00000001.jpg", "Places365_val_00000002.jpg"])
    (tmp_path / "val.txt").write_text("Places365_val_00000001.jpg 1\nPlaces365_val_00000002.jpg 0\n")
    (tmp_path / "categories.txt").write_text("/a/airfield 0\n/a/apartment_building/outdoor 1\n")
    words = [f"probe.path={places}", f"probe.labels={tmp_path / 'val.txt'}"]
    words += [f"probe.class_names={tmp_path / 'categories.txt'}"]
    assert load(places, "probe=places365", *words).classes == ["apartment building outdoor", "airfield"]
    photos(euro, ["AnnualCrop/1.jpg", "SeaLake/1.jpg"])
    assert load(euro, "probe=eurosat", f"probe.path={euro}").classes == ["AnnualCrop", "SeaLake"]


def test_a_folder_with_captions_and_labels(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photos(root, ["a/1.png", "b/1.png"])
    (tmp_path / "captions.csv").write_text('file,caption\na/1.png,"a dog, running"\nb/1.png,a cat\n')
    (tmp_path / "labels.csv").write_text("file,label\nb/1.png,cat\na/1.png,dog\n")
    words = ["probe=folder", f"probe.path={root}", f"probe.captions={tmp_path / 'captions.csv'}"]
    found = load(root, *words, f"probe.labels={tmp_path / 'labels.csv'}")
    assert found.captions == ["a dog, running", "a cat"]
    assert found.classes == ["dog", "cat"]
    (tmp_path / "captions.csv").write_text("file,caption\na/1.png,a dog\n")
    with pytest.raises(UsageError, match=r"captions='.*' says nothing of 1 images: b/1\.png"):
        load(root, *words)
    with pytest.raises(UsageError, match="needs labels to name"):
        load(root, "probe=folder", f"probe.path={root}", "probe.class_names=x")


@pytest.mark.parametrize(("kind", "header"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_in_its_binary_version(kind: str, header: int, tmp_path: Path) -> None:
    images = np.stack([np.asarray(picture(i).resize((32, 32))) for i in range(5)])
    labels = np.array([1, 0, 1, 1, 0], np.uint8)
    rows = [
        np.concatenate([[9] * (header - 1), [label], np.moveaxis(image, -1, 0).ravel()]).astype(np.uint8)
        for label, image in zip(labels, images, strict=True)
    ]
    test, names = (
        ("test_batch.bin", "batches.meta.txt") if header == 1 else ("test.bin", "fine_label_names.txt")
    )
    (tmp_path / test).write_bytes(np.stack(rows).tobytes())
    (tmp_path / names).write_text("apple\naquarium_fish\n\n")
    found = load(tmp_path, f"probe={kind}", f"probe.path={tmp_path}")
    assert all(np.array_equal(found.images[i], images[i]) for i in range(5))
    assert found.classes == ["aquarium fish", "apple", "aquarium fish", "aquarium fish", "apple"]
    some = load(tmp_path, f"probe={kind}", f"probe.path={tmp_path}", "probe.n_images=3")
    assert len(some.ids) == 3
    assert set(some.ids) < set(found.ids)
    (tmp_path / test).write_bytes(b"12345")
    with pytest.raises(UsageError, match="5 bytes, which is no number of images"):
        load(tmp_path, f"probe={kind}", f"probe.path={tmp_path}")


def test_a_hugging_face_dataset_from_disk(tmp_path: Path) -> None:
    rows = {
        "image": [
            *({"bytes": encoded(picture(i), "PNG"), "path": None} for i in range(4)),
            {"bytes": b"no", "path": None},
        ],
        "text": [f"caption {i}" for i in range(5)],
        "label": [0, 1, 1, 0, 1],
    }  # fmt: skip
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "data")
    words = ["probe=hf_dataset", f"probe.path={tmp_path / 'data'}", "probe.split=train"]
    found = load(tmp_path, *words, "probe.caption=text", "probe.label=label")
    assert np.array_equal(found.images[2], SCENES.images[2])
    assert found.captions == [f"caption {i}" for i in range(4)]
    assert found.classes == ["cat", "dog", "dog", "cat"]
    assert [item.name for item in found.skipped] == ["row 4"]
    with pytest.raises(UsageError, match=r"split='x': the dataset has the splits train"):
        load(tmp_path, *words[:2], "probe.split=x")
    unlabeled = table.select([0, 1]).map(lambda row: {**row, "label": -1}, features=features)
    unlabeled.save_to_disk(tmp_path / "test")
    with pytest.raises(UsageError, match="label='label': row 0 has no class"):
        load(tmp_path, "probe=hf_dataset", f"probe.path={tmp_path / 'test'}", "probe.label=label")
    with pytest.raises(UsageError, match=r"max_pixels=1000000000 must lie in 1\.\.178956970"):
        load(tmp_path, *words, "probe.max_pixels=1000000000")
    with pytest.raises(UsageError, match=r"caption='x': the dataset has the columns image, text, label"):
        load(tmp_path, *words, "probe.caption=x")


def test_broden_with_its_masks(tmp_path: Path) -> None:
    root = tmp_path / "broden"
    small_broden(root)
    found = load(root, "probe=broden", f"probe.path={root}")
    assert found.classes == ["airport terminal"] * 3
    concepts = found.concepts
    assert concepts is not None
    assert concepts.names == ["wall", "traffic light", "red", "blue", "airport terminal"]
    assert concepts.categories == ["object", "object", "color", "color", "scene"]
    numbers, masks = concepts.load(1)
    assert numbers.tolist() == [0, 2, 4]
    assert masks.sum(axis=(1, 2)).tolist() == [32, 64, 64]
    assert concepts.annotated(1) == {"object", "color", "scene"}
    assert len(load(root, "probe=broden", f"probe.path={root}", "probe.split=train").ids) == 2
    (root / "images" / "ade" / "0_color.png").write_bytes(b"no")
    with pytest.raises(RunError, match=r"masks .*0_color\.png cannot be read"):
        concepts.load(0)


def test_unions_join_images_and_concepts(tmp_path: Path) -> None:
    root, val = tmp_path / "broden", tmp_path / "val"
    small_broden(root)
    photos(val, [f"n0{i}/{i}.jpg" for i in range(5)])  # the first three are Broden's, byte by byte
    words = ["probe=imagenet_broden", f"probe.sets.imagenet.path={val}", f"probe.sets.broden.path={root}"]
    found = load(root, *words)
    assert len(found.ids) == 5
    assert found.classes == ["n00", "n01", "n02", "n03", "n04"]
    assert found.concepts is not None
    assert found.concepts.load(0)[0].tolist() == []
    small_broden(root, n=7)
    found = load(root, *words)
    assert len(found.ids) == 7
    assert found.concepts is not None
    assert [len(found.concepts.load(i)[0]) for i in range(7)] == [0] * 5 + [3, 3]
    assert found.concepts.annotated(0) == frozenset()
    assert len(load(root, *words, "probe.n_images=4").ids) == 4
