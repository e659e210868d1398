"""What the latents of the embedded autoencoder detect, found by matching them with the world's concepts.

Nobody planted them. A latent's truth is the concept that its code follows best over training images; where
none is followed well, nothing is known of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from dnr_bench.infra.fingerprints import checkpoint_path
from dnr_bench.shapes.concepts import FACETS, NOT, Concept
from dnr_bench.shapes.network import load_network
from dnr_bench.shapes.planted import planted_units_512
from dnr_bench.shapes.render import Scene
from dnr_bench.shapes.target import hooked_network
from dnr_bench.shapes.train.data import Scenes, draw_scenes
from dnr_bench.shapes.world import SEEN_SHAPES
from dnr_bench.statistics.detection import correlation
from dnr_bench.targets.latents import SAE, Latents, read_sae, with_latents
from dnr_bench.targets.sae import FILE

#: A latent detects a concept that its mean code correlates with at least so well.
LEAST = 0.8
#: A longer concept must fit better by so much.
_LONGER = 0.02
#: The layer that is explained, and how many codes of a vector are not 0.
LAYER, K = "layer4", 12


def latent_codes(directory: Path, images: Sequence[np.ndarray]) -> Float[np.ndarray, "images latents"]:
    """The mean code of each latent on each image."""
    base = hooked_network("embedded:target512", batch_size=256)
    units = next(layer.units for layer in base.layers() if layer.name == LAYER)
    return with_latents(base, LAYER, _latents(directory, units)).run(images, [SAE])[SAE]


def explained(directory: Path, data: Scenes) -> float:
    """The share of the variance of the layer's vectors that the codes account for."""
    model, config = load_network(checkpoint_path("embedded:target512"))
    latents = _latents(directory, model.concepts.convolution.in_channels)
    _, images = data.batch(range(min(512, len(data.scenes))))
    with torch.inference_mode():
        seen = (images - config["mean"][0]) / config["std"][0]
        vectors = model.eval().features(seen).movedim(1, -1).flatten(0, 2)
        left = vectors - latents.decode(latents.encode(vectors))
    return float(1 - left.square().sum() / (vectors - vectors.mean(dim=0)).square().sum())


def _latents(directory: Path, units: int) -> Latents:
    return Latents(read_sae(directory / FILE, units, "topk"), "topk", K, subtract_bias=True)


def matched_latents(directory: Path, n_images: int = 16_000, seed: int = 1) -> list[dict[str, object]]:
    """The entries of planted.json: latents that follow a concept, and dead ones.

    Half of the images show the concept of some unit of the target, so that rare concepts occur.
    """
    asked_for = [unit.truth for unit in planted_units_512() if unit.concept]
    data = draw_scenes("train", n_images, SEEN_SHAPES, seed=seed, asked_for=asked_for)
    codes = latent_codes(directory, list(data.images))
    concepts = known_concepts()
    rs = correlation(codes, shown(concepts, data.scenes).astype(float))
    return [entry for latent in range(codes.shape[1]) if (entry := _entry(latent, codes, rs, concepts))]


def known_concepts() -> list[Concept]:
    """Attributes, pairs and triples across facets, alternatives within one, and what units detect."""
    facets = {**FACETS, "shape": SEEN_SHAPES}
    conjunctions = [
        Concept.of(attributes)
        for size in (1, 2, 3)
        for chosen in combinations(facets.values(), size)
        for attributes in product(*chosen)
        if not any(f"{attribute} background" in attributes for attribute in attributes)
    ]
    alternatives = [
        Concept.of([one], [other]) for values in facets.values() for one, other in combinations(values, 2)
    ]
    planted = [unit.truth for unit in planted_units_512() if unit.concept]
    return list(dict.fromkeys([*conjunctions, *alternatives, *planted]))


def shown(concepts: Sequence[Concept], scenes: Sequence[Scene]) -> Bool[np.ndarray, "scenes concepts"]:
    """Which scenes show which concepts."""
    kinds = list(dict.fromkeys(scene.attributes for scene in scenes))
    place = {attributes: row for row, attributes in enumerate(kinds)}
    table = np.asarray([[concept.matches(attributes) for concept in concepts] for attributes in kinds])
    found: np.ndarray = table[[place[scene.attributes] for scene in scenes]]
    return found


def _entry(
    latent: int, codes: np.ndarray, rs: Float[np.ndarray, "latents concepts"], concepts: Sequence[Concept]
) -> dict[str, object] | None:
    named = {"layer": "sae", "unit": latent}
    if not codes[:, latent].any():
        return {**named, "kind": "dead", "concept": ""}
    fit = np.nan_to_num(rs[latent]) - _LONGER * np.asarray([len(concept.attributes) for concept in concepts])
    best = int(np.argmax(fit))
    if not rs[latent, best] >= LEAST:
        return None
    kind = _kind(concepts[best])
    return {**named, "kind": kind, "concept": str(concepts[best]), "fit": round(float(rs[latent, best]), 3)}


def _kind(concept: Concept) -> str:
    """As of planted units."""
    if len(concept.alternatives) > 1:
        return "or"
    if any(attribute.startswith(NOT) for attribute in concept.attributes):
        return "exception"
    return ("single", "pair", "triple", "rare")[len(concept.attributes) - 1]
