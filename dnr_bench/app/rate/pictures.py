"""The pictures of a rating study: from finished runs as they are, or from the probing set in full size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dnr_bench.data.images import Image
from dnr_bench.infra.batches import in_threads
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.montage import Montage, cut_strip
from dnr_bench.outputs.pictures import Pictures, Tile
from dnr_bench.presences.clip import ClipPresence
from dnr_bench.protocols import Presence, knows
from dnr_bench.results.ratings.design import Source, plain
from dnr_bench.results.ratings.study import Item, Sample
from dnr_bench.results.schema import NeuronResult
from dnr_bench.session import Session
from dnr_bench.stages.thumbnails import SIZE
from dnr_bench.statistics.formulas import formula_presence, formula_words
from dnr_bench.statistics.importance import UNIFORM, draw, planned_error, proposal, standardized

#: Labels whose presence in all images is in memory together.
_LABELS = 64


@dataclass(frozen=True)
class Draws:
    """n images per label, of which the share `uniform` is drawn without trusting the model."""

    n: int
    uniform: float = UNIFORM
    seed: int = 0


def thumbnails(
    folders: Sequence[Path], sources: Sequence[Source], neurons: Sequence[NeuronResult], n: int
) -> dict[str, Montage]:
    """By neuron its highest exemplars, as the page of the first run that has them shows them.

    Whole images where there are some, else crops.

    Raises:
        UsageError: a folder holds something else than pictures.
    """
    albums = [Pictures.read(folder) for folder in folders]
    found: dict[str, Montage] = {}
    for neuron in neurons:
        for album, source in zip(albums, sources, strict=True):
            tiles = album.exemplars.get(neuron.name, ())
            own = next(o for o in source.result.neurons if o.name == neuron.name)
            if tiles and neuron.name not in found:
                chosen = _whole(tiles, own)[:n]
                found[neuron.name] = Montage.of([_picture(album, tile) for tile in chosen], SIZE)
    return found


def _whole(tiles: Sequence[Tile], neuron: NeuronResult) -> list[Tile]:
    pairs = list(zip(tiles, neuron.exemplars, strict=False))
    return [tile for tile, exemplar in pairs if exemplar.box is None] or list(tiles)


def _picture(album: Pictures, tile: Tile) -> Image:
    strip = album.strips[tile.strip]
    return cut_strip(strip.webp, strip.n)[tile.place]


def highest(
    session: Session, neurons: Sequence[NeuronResult], n: int, size: int
) -> Iterator[tuple[str, Montage]]:
    """Each neuron with the probing images of highest activation, as in the papers' studies."""
    for neuron in neurons:
        values = np.asarray(session.activations(neuron.layer).values[:, neuron.unit])
        if np.ptp(values) > 0:
            places = np.argsort(-values, kind="stable")[:n]
            yield neuron.name, montage_of(session, places.tolist(), size)


def montage_of(session: Session, places: Sequence[int], size: int) -> Montage:
    """Probing images at these places."""
    return Montage.of(list(in_threads(lambda place: session.probe.images[place], places)), size)


def check_probe(session: Session, sources: Sequence[Source]) -> None:
    """Raises `UsageError` where the settings lead to another probing set than that of the runs."""
    for source in sources:
        if source.result.probe.digest != session.probe.digest:
            raise UsageError(
                f"{source.name} was run on the probing set {source.result.probe.name}, and your settings lead"
                f" to {session.probe.name}: give the settings of that run (probe=..., blur=..., seed=...)"
            )


def samples_of(
    sources: Sequence[Source],
    neurons: Sequence[NeuronResult],
    session: Session,
    presence: Presence,
    draws: Draws,
) -> tuple[list[Sample], float]:
    """For every label of every neuron images that are drawn where they matter for the correlation.

    Returns:
        The samples, and how many times as many ratings evenly drawn images would need for the same error, the
        median over samples.

    Raises:
        UsageError: the CLIP does not know the words of the labels, or knows nothing of these images.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    texts: dict[str, str] = {}
    for neuron in neurons:
        for source in sources:
            if text := source.label_of(neuron.name):
                shown = texts.setdefault(plain(text), text)
                wanted.setdefault((neuron.name, shown), []).append(source.name)
    labels = list(dict.fromkeys(text for _, text in wanted))
    words = formula_words(labels)
    presence.check(session.probe)
    if isinstance(presence, ClipPresence) and not knows(presence.encoder, words):
        raise UsageError(
            f"{presence.judge} does not know the words of these labels, and cannot tell which images to ask"
            " about: choose an encoder that does, or presence=captions"
        )
    places = {neuron.name: neuron for neuron in neurons}
    found: list[Sample] = []
    gains = []
    for first in range(0, len(labels), _LABELS):
        part = labels[first : first + _LABELS]
        shown_in = _presence(part, session, presence)
        for (name, text), methods in wanted.items():
            if text in part:
                likely = shown_in[:, part.index(text)].astype(float)
                own = replace(draws, seed=_seed_of(draws, len(found)))
                sample, gain = _sampled(places[name], text, methods, likely, session, own)
                found.append(sample)
                gains.append(gain)
    return found, float(np.median(gains))


def _seed_of(draws: Draws, number: int) -> int:
    """Another one for each label."""
    return int(np.random.SeedSequence((draws.seed, number)).generate_state(1)[0])


def _presence(labels: Sequence[str], session: Session, presence: Presence) -> np.ndarray:
    """How probably each probing image shows each label: images x labels."""
    words = formula_words(labels)
    column_of = {text: column for column, text in enumerate(words)}
    chunks = presence.chunks(session.probe, session.probe_vectors, words)
    parts = [
        np.stack([formula_presence(label, chunk, column_of) for label in labels], axis=1) for chunk in chunks
    ]
    return np.concatenate(parts).astype(np.float32)


def _sampled(
    neuron: NeuronResult,
    text: str,
    methods: Sequence[str],
    likely: np.ndarray,
    session: Session,
    draws: Draws,
) -> tuple[Sample, float]:
    values = np.asarray(session.activations(neuron.layer).values[:, neuron.unit], float)
    z = standardized(values)
    common = float(likely.mean()) > 0.5
    rare = 1 - likely if common else likely
    chances = proposal(values, rare, draws.uniform)
    drawn = draw(chances, draws.n, draws.seed)
    error = planned_error(values, rare, chances)
    even = planned_error(values, rare, proposal(values, rare, uniform=1))
    sample = Sample(
        neuron.name,
        neuron.layer,
        text,
        tuple(methods),
        tuple(drawn.tolist()),
        tuple(chances[drawn].tolist()),
        tuple(z[drawn].tolist()),
        tuple(likely[drawn].tolist()),
        len(values),
        error / draws.n**0.5,
        common,
    )
    return sample, (even / error) ** 2 if error > 0 else 1.0


def picture_montages(items: Sequence[Item], session: Session, size: int) -> Mapping[str, Montage]:
    """The pictures of each item that asks about pictures."""
    return {item.montage: montage_of(session, item.images, size) for item in items}
