"""The loop of released scripts: a neuron at a time, batches of one, models loaded for each neuron.

The same small models as ours. Each step takes one thing back, so that the table says where the gain is from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig, run
from dnr_bench.data.neuron import Neuron
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.session import Session
from tests.bench.rows import Row

_WORDS = ("neurons.layers=[concepts]", "evaluator=[]", "probe.n_images=1000", "report=false")


def one_at_a_time(folder: Path, n_neurons: int) -> list[Row]:
    """Seconds per neuron of the loop, of its steps, and of a run of all units."""
    words = [*_WORDS, f"paths.store={folder / 'ours'}"]
    start = time.perf_counter()
    config = build_run(load_config(*words))
    result = run(config)
    ours = (time.perf_counter() - start) / len(result.neurons)
    session = config.session()
    neurons = list(session.exemplars(config.neurons))[:n_neurons]
    concepts = {
        Neuron(n.layer, n.unit): [c.text for c in n.candidates] for n in result.neurons if n.candidates
    }
    chosen = {neuron: concepts[neuron] for neuron in neurons if neuron in concepts}
    each = _per_neuron(chosen, words, loads=True, size=1)
    loaded = _per_neuron(chosen, words, loads=False, size=1)
    batched = _per_neuron(chosen, words, loads=False, size=16)
    name = "neuron at a time"
    return [
        Row(f"{name}: models loaded for each, batches of one / ours", each / ours, "at least 8", each, ours,
            "s per neuron", f"{len(chosen)} of {len(result.neurons)} neurons in the loop"),
        Row(f"{name}: models loaded once, batches of one / ours", loaded / ours, "", loaded, ours,
            "s per neuron"),
        Row(f"{name}: models loaded once, batches of 16 / ours", batched / ours, "", batched, ours,
            "s per neuron", "what is left is sharing concepts and batches between neurons"),
    ]  # fmt: skip


def _per_neuron(concepts: dict[Neuron, list[str]], words: Sequence[str], *, loads: bool, size: int) -> float:
    """Seconds per neuron of captions, drawings, activations and vectors, without any store."""
    config = build_run(load_config(*words))
    session = config.session()
    exemplars = session.exemplars(list(concepts))
    _load(config, session)
    start = time.perf_counter()
    for neuron, texts in concepts.items():
        if loads:
            config = build_run(load_config(*words))
        _describe(config, session, [view.pixels for view in session.views(exemplars[neuron])], texts, size)
    return (time.perf_counter() - start) / len(concepts)


def _load(config: RunConfig, session: Session) -> None:
    _describe(config, session, [session.probe.images[0]], ["red"], 1)


def _describe(
    config: RunConfig, session: Session, shown: Sequence[object], texts: Sequence[str], size: int
) -> None:
    from dnr_bench.data.images import View

    method, layer = config.method, config.neurons[0].layer
    assert isinstance(method, DescribeAndDissect)
    assert config.generator is not None
    views = [View.of(image) for image in shown]  # type: ignore[arg-type]
    for first in range(0, len(views), size):
        list(method.concepts.captioner.caption(views[first : first + size]))
    config.generator.batches.size = size  # type: ignore[attr-defined]
    q = config.drawing.images_per_concept
    requests = [(f"a realistic image of {text}", seed) for text in texts for seed in range(q)]
    for first in range(0, len(requests), size):
        block = requests[first : first + size]
        images = list(config.generator.generate([p for p, _ in block], [seed for _, seed in block]))
        config.target.run(images, [layer])
        config.encoder.embed_images(images)
    for text in texts:
        config.encoder.embed_texts([text])
