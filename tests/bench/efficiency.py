"""How far each stage is bound by its model: the time of the bare model on ready inputs by the stage's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig
from dnr_bench.data.images import View
from dnr_bench.infra.devices import is_cuda, take_turn, torch_dtype
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.targets.noted import NotedTarget
from tests.bench.models import Models
from tests.bench.rows import Row

_GOAL = "at least 0.9"
_SIZES, _DRAWN = (16, 32, 64), (8, 16, 32)


@dataclass
class Rate:
    """Rows that a model has computed, counted by a hook."""

    rows: int = 0

    @contextmanager
    def counting(self, model: torch.nn.Module) -> Iterator[None]:
        """Count the batches that go through a model."""

        def count(_: object, inputs: Sequence[Tensor]) -> None:
            self.rows += len(inputs[0])

        handle = model.register_forward_pre_hook(count)
        try:
            yield
        finally:
            handle.remove()


def efficiencies(photos: Path, folder: Path, models: Models, n_neurons: int) -> list[Row]:
    """One row per stage of a run on photographs, every item of it computed here."""
    words = [
        "probe=folder", f"probe.path={photos}", f"neurons.units=0-{n_neurons - 1}", "evaluator=[]",
        f"paths.store={folder / 'store'}", "exemplars.n=5", *models.words,
    ]  # fmt: skip
    config = build_run(load_config(*words))
    _warm(config)
    session, method, rate = config.session(), config.method, Rate()
    assert isinstance(method, DescribeAndDissect)
    assert isinstance(config.target, NotedTarget)
    counts = session.store.counts
    rows = []
    bare = _target_rate(config, session.probe.images[:32])
    with rate.counting(config.target.model):
        session.activations(config.neurons[0].layer)
        seconds = counts["activations"].seconds
        rows.append(_row("activations", rate.rows * bare, seconds, f"{rate.rows} photographs"))
        before = rate.rows
        exemplars = session.exemplars(config.neurons)
        done = rate.rows - before
        rows.append(_row("maps and crops", done * bare, counts["exemplars"].seconds, f"{done} rows"))
    views = {neuron: session.views(found) for neuron, found in exemplars.items()}
    captions = method.concepts.captions(views, session)
    n = counts["captions"].misses
    all_views = [view for of_neuron in views.values() for view in of_neuron][:64]
    bare = _captioner_rate(method.concepts.captioner, all_views)
    rows.append(_row("captions", n * bare, counts["captions"].seconds, f"{n} views"))
    concepts = list(dict.fromkeys(text for of_one in captions.values() for text in of_one))[:16]
    list(session.draw(concepts))
    n = counts["images"].misses * config.drawing.images_per_concept
    pixels = [image for concept in concepts[:4] for image in session.drawn(concept).pixels]
    bare = _generator_rate(config.generator, concepts)
    rows.append(_row("drawings", n * bare, counts["images"].seconds, f"{n} images"))
    bare = _target_rate(config, pixels)
    rows.append(_row("activations of drawings", n * bare, counts["image_activations"].seconds, f"{n} images"))
    bare = _encoder_rate(config.encoder, pixels)
    rows.append(_row("embeddings of drawings", n * bare, counts["image_embeddings"].seconds, f"{n} images"))
    total = sum(count.seconds for count in counts.values())
    return [*rows, Row("all stages, seconds per neuron", total / len(exemplars), of="s", note=models.name)]


def _row(name: str, bare: float, stage: float, note: str) -> Row:
    return Row(f"efficiency: {name}", bare / stage, _GOAL, bare, stage, "s", note)


def _warm(config: RunConfig) -> None:
    """Load every model and let libraries choose their kernels, which is no part of a stage."""
    image = config.probe.load(0).images[0]
    config.target.run([image], [config.neurons[0].layer])
    config.encoder.embed_images([image])
    config.encoder.embed_texts(["a picture"])
    assert isinstance(config.method, DescribeAndDissect)
    list(config.method.concepts.captioner.caption([View.of(image)]))
    assert config.generator is not None
    list(config.generator.generate(["a picture"], [0]))


def _best(work: Callable[[int], object], device: str, sizes: Sequence[int] = _SIZES) -> float:
    """Seconds per row of a model at its best batch size; `work` computes so many rows."""
    found = []
    for size in sizes:
        try:
            with torch.inference_mode():
                work(size)
                times = []
                for _ in range(3):
                    _wait(device)
                    start = time.perf_counter()
                    work(size)
                    _wait(device)
                    times.append((time.perf_counter() - start) / size)
            found.append(sorted(times)[1])
        except torch.OutOfMemoryError:
            break
    return min(found)


def _wait(device: str) -> None:
    if is_cuda(device):
        torch.cuda.synchronize()


def _rows(inputs: Tensor, n: int) -> Tensor:
    """So many rows of a model's inputs, from the first again where there are fewer."""
    return inputs.repeat(-(-n // len(inputs)), *[1] * (inputs.ndim - 1))[:n]


def _target_rate(config: RunConfig, images: Sequence[Any]) -> float:
    assert isinstance(config.target, NotedTarget)
    hooked = config.target._checked()
    seen = torch.stack([hooked.preprocessing.seen(image) for image in images])
    inputs = hooked.preprocessing.normalized(seen, hooked.dtype).to(hooked.device)
    take_turn(hooked.model, hooked.device)
    return _best(lambda n: hooked.model(_rows(inputs, n)), hooked.device)


def _encoder_rate(encoder: Any, images: Sequence[Any]) -> float:
    clip = encoder._clip()
    pixels = torch.stack([clip.preprocess(PILImage.fromarray(image)) for image in images])
    pixels = pixels.to(encoder.device, torch_dtype(encoder.dtype))
    take_turn(clip.model, encoder.device)
    return _best(lambda n: clip.model.encode_image(_rows(pixels, n)), encoder.device)


def _captioner_rate(captioner: Any, views: Sequence[View]) -> float:
    blip = captioner._blip()
    inputs = blip.processor(
        images=[view.pixels for view in views], return_tensors="pt", input_data_format="channels_last"
    )
    pixels = inputs["pixel_values"].to(captioner.device, torch_dtype(captioner.dtype))
    take_turn(blip.model, captioner.device)
    settings = {"max_new_tokens": captioner.max_new_tokens, "do_sample": False}
    return _best(lambda n: blip.model.generate(pixel_values=_rows(pixels, n), **settings), captioner.device)


def _generator_rate(generator: Any, concepts: Sequence[str]) -> float:
    take_turn(generator.pipeline, generator.device)
    prompts = [f"a realistic image of {concept}" for concept in concepts]

    def work(n: int) -> None:
        streams = [torch.Generator().manual_seed(seed) for seed in range(n)]
        asked = (prompts * (n // len(prompts) + 1))[:n]
        generator.pipeline(asked, generator=streams, output_type="np", **generator.options)

    return _best(work, generator.device, _DRAWN)
