"""Measures an embedded model on held-out images: `python -m dnr_bench.shapes.check target`.

The figures of the model card, each beside what it must reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from dnr_bench.app.composition import load_config
from dnr_bench.app.parts import PartBuilder
from dnr_bench.captioners.blip import BlipCaptioner
from dnr_bench.data.images import Image, View
from dnr_bench.encoders.bert_score import BertScore
from dnr_bench.encoders.clip import local_clip
from dnr_bench.encoders.sentences import SentenceEncoder
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.shipped import embedded_path
from dnr_bench.protocols import Generator
from dnr_bench.shapes.attribute_classifier import AttributeClassifier
from dnr_bench.shapes.concepts import BACKGROUNDS, FACET_OF, FACETS, SHAPES, UNSEEN_SHAPE, Concept, parse
from dnr_bench.shapes.fidelity import (
    KINDS,
    by_attribute,
    contact_sheet,
    fidelity,
    held_out_requests,
    judged,
    paint,
)
from dnr_bench.shapes.latents import explained, latent_codes, shown
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.planted import HALF, planted_units, planted_units_512
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.target import hooked_network
from dnr_bench.shapes.train.data import Scenes, draw_scenes
from dnr_bench.shapes.train.sentences import shared_attributes
from dnr_bench.shapes.train.target import responses
from dnr_bench.shapes.world import SEEN_SHAPES, caption, class_index, scene_rng


@dataclass(frozen=True)
class Figure:
    """One measured figure; `at_least` is what the model must reach (None: for information)."""

    name: str
    value: float
    at_least: float | None
    n: int


def check_target(checkpoint: str, n: int = 4000) -> list[Figure]:
    """Class accuracy, and the AUROC of every planted unit against its concept."""
    data = draw_scenes("evaluation", n, SEEN_SHAPES)
    target = hooked_network(checkpoint, pool="mean", device="cpu", batch_size=256)
    outputs = target.run(list(data.images), ["concepts", "fc"])
    right = outputs["fc"].argmax(axis=1) == [class_index(scene) for scene in data.scenes]
    aurocs = {
        f"{planted.unit} {planted.concept}": roc_auc_score(
            [planted.truth.matches(scene.attributes) for scene in data.scenes],
            outputs["concepts"][:, planted.unit],
        )
        for planted in planted_units()
        if planted.kind not in ("dead", "random")
    }
    worst = min(aurocs, key=lambda unit: aurocs[unit])
    dead = [unit.unit for unit in planted_units() if unit.kind == "dead"]
    return [
        Figure("fc accuracy", float(right.mean()), 0.97, n),
        Figure(f"lowest AUROC of a planted unit ({worst})", float(aurocs[worst]), 0.98, n),
        Figure("mean AUROC of planted units", float(np.mean(list(aurocs.values()))), None, n),
        Figure(
            "share of dead units that never fire", float((outputs["concepts"][:, dead] == 0).mean()), 1.0, n
        ),
    ]


def check_target_512(checkpoint: str, n: int = 12_000) -> list[Figure]:
    """Class accuracy, and the planted selectivity of every unit, the worst one of each kind.

    Half of the images show the concept of some unit, as in training: the rarest ones occur.
    """
    units = planted_units_512()
    asked_for = [unit.truth for unit in units if unit.concept]
    data = draw_scenes("evaluation", n, SEEN_SHAPES, asked_for=asked_for)
    target = hooked_network(checkpoint, pool="mean", device="cpu", batch_size=256)
    outputs = target.run(list(data.images), ["concepts", "fc"])
    found, wanted = outputs["concepts"], responses(units, data.scenes)
    right = outputs["fc"].argmax(axis=1) == [class_index(scene) for scene in data.scenes]
    figures = [Figure("fc accuracy", float(right.mean()), 0.97, n)]
    kinds = dict.fromkeys(u.kind for u in units if u.trained and u.kind not in ("weak", "nameless", "graded"))
    for kind in kinds:
        aurocs = [_auroc(wanted[:, u.unit] > 0, found[:, u.unit]) for u in units if u.kind == kind]
        figures.append(Figure(f"{kind}: lowest AUROC of {len(aurocs)}", min(aurocs), 0.98, n))
    graded = [unit.unit for unit in units if unit.kind == "graded"]
    figures += _graded_figures(wanted[:, graded], found[:, graded])
    gaps = [
        abs(_auroc(shown, found[:, unit.unit]) - _auroc(shown, wanted[:, unit.unit]))
        for unit in units
        if unit.kind == "weak"
        for shown in [np.asarray([unit.truth.matches(scene.attributes) for scene in data.scenes])]
    ]
    figures.append(Figure("weak: 1 - largest gap to the planted AUROC", 1 - max(gaps), 0.97, n))
    rs = [pearsonr(wanted[:, u.unit], found[:, u.unit]).statistic for u in units if u.kind == "nameless"]
    figures.append(Figure("nameless: lowest correlation with what was planted", min(rs), 0.9, n))
    dead = [unit.unit for unit in units if unit.kind == "dead"]
    figures.append(Figure("share of dead units that never fire", float((found[:, dead] == 0).mean()), 1.0, n))
    return figures


def check_sae(checkpoint: str, n: int = 6000) -> list[Figure]:
    """How much the autoencoder explains, and whether its latents detect what planted.json says of them.

    Half of the images show the concept of some unit of the target, as in training.
    """
    folder, truths = embedded_path(checkpoint), read_planted(checkpoint)
    asked_for = [unit.truth for unit in planted_units_512() if unit.concept]
    data = draw_scenes("evaluation", n, SEEN_SHAPES, asked_for=asked_for)
    codes = latent_codes(folder, list(data.images))
    named = [parse(truth.concept) for truth in truths]
    present, mine = shown(named, data.scenes), [truth.neuron.unit for truth in truths]
    aurocs = [_auroc(present[:, place], codes[:, unit]) for place, unit in enumerate(mine)]
    rs = [pearsonr(present[:, place], codes[:, unit]).statistic for place, unit in enumerate(mine)]
    return [
        Figure("share of the vectors' variance that is explained", explained(folder, data), 0.8, n),
        Figure("latents that follow a concept", float(len(truths)), 150, codes.shape[1]),
        Figure("latents that never fire", float((codes.max(axis=0) == 0).sum()), None, codes.shape[1]),
        Figure("mean correlation of code and concept", float(np.mean(rs)), 0.8, len(rs)),
        Figure("mean AUROC of code and concept", float(np.mean(aurocs)), 0.97, len(aurocs)),
        Figure("lowest AUROC of nine in ten", float(np.quantile(aurocs, 0.1)), 0.9, len(aurocs)),
    ]


def _graded_figures(wanted: np.ndarray, found: np.ndarray) -> list[Figure]:
    """Full, half and no concept of graded units [images, units] apart, and where half lies between them."""
    half_up, full_up, places = [], [], []
    for planted, of_unit in zip(wanted.T, found.T, strict=True):
        none, half, full = (of_unit[planted == level] for level in (0.0, HALF, 1.0))
        half_up.append(_auroc(np.repeat([False, True], [len(none), len(half)]), np.append(none, half)))
        full_up.append(_auroc(np.repeat([False, True], [len(half), len(full)]), np.append(half, full)))
        places.append(float((half.mean() - none.mean()) / (full.mean() - none.mean())))
    n = len(wanted)
    return [
        Figure("graded: lowest AUROC, half against none", min(half_up), 0.98, n),
        Figure("graded: lowest AUROC, full against half", min(full_up), 0.98, n),
        Figure("graded: half between none and full, lowest", min(places), 0.4, n),
        Figure("graded: half between none and full, highest", max(places), None, n),
    ]


def _auroc(shown: np.ndarray, activations: np.ndarray) -> float:
    return float(roc_auc_score(shown, activations))


def check_clip(checkpoint: str, n: int = 2000) -> list[Figure]:
    """Zero-shot accuracy on each attribute; retrieval among 100 captions, no two of which say the same."""
    encoder = local_clip(checkpoint, device="cpu", dtype="float32", batch_size=256)
    data = draw_scenes("evaluation", n)
    images = encoder.embed_images(list(data.images))
    accuracies = {
        facet: float(np.mean((images @ encoder.embed_texts(prompts(facet)).T).argmax(axis=1) == true.numpy()))
        for facet, true in data.truth().items()
    }
    figures = [Figure(f"zero-shot {facet} accuracy", a, None, n) for facet, a in accuracies.items()]
    figures.append(Figure("zero-shot attribute accuracy", float(np.mean(list(accuracies.values()))), 0.97, n))
    hits = []
    for first in range(0, 1000, 100):
        chosen = _distinct(data, first, 100)
        texts = encoder.embed_texts([caption(data.scenes[i]) for i in chosen])
        hits.append(np.mean((texts @ images[chosen].T).argmax(axis=1) == np.arange(100)))
        hits.append(np.mean((images[chosen] @ texts.T).argmax(axis=1) == np.arange(100)))
    figures.append(
        Figure("caption retrieval R@1 among 100 captions", float(np.mean(hits)), 0.9, len(hits) * 100)
    )
    words = encoder.embed_texts([str(concept) for concept in _single_concepts()])
    cosines = (words @ words.T)[np.triu_indices(len(words), 1)]
    for quantile in (0.5, 0.9, 0.95, 0.99):
        name = f"cosine of unrelated labels, quantile {quantile}"
        figures.append(Figure(name, float(np.quantile(cosines, quantile)), None, len(cosines)))
    return figures


def check_captioner(checkpoint: str, n: int = 2000) -> list[Figure]:
    """The share of captions with all four attributes right, and each attribute's own share."""
    captioner = BlipCaptioner(
        "blip", checkpoint, None, max_new_tokens=20, device="cpu", dtype="float32", batch_size=128
    )
    figures = []
    for kind, at_least, images, truth in _captioner_images(n):
        said = [parse(text) for text in captioner.caption([View.of(image) for image in images])]
        right = [Concept.of(shown) == concept for shown, concept in zip(truth, said, strict=True)]
        figures.append(
            Figure(f"captions{kind} with all attributes right", float(np.mean(right)), at_least, len(right))
        )
        for facet, values in FACETS.items():
            of_facet = [shown & set(values) <= c.attributes for shown, c in zip(truth, said, strict=True)]
            figures.append(
                Figure(f"– captions{kind} with the right {facet}", float(np.mean(of_facet)), None, len(right))
            )
    return figures


def _captioner_images(n: int) -> Iterator[tuple[str, float | None, list[Image], list[frozenset[str]]]]:
    """Kind, what must be reached, images and their attributes: rendered, zoomed and generated images."""
    for kind, at_least, zoomed in (("", 0.95, 0.0), (" of zoomed images", None, 1.0)):
        data = draw_scenes("evaluation", n, zoomed_share=zoomed)
        yield kind, at_least, list(data.images), [scene.attributes for scene in data.scenes]
    wanted = held_out_requests(max(n // 8, 20), kinds=["full description"])
    drawn = judged(wanted, paint(_generator("embedded:generator", ()), wanted, each=2))
    as_asked = [image for image in drawn if all(image.named.values())]
    share = len(as_asked) / len(drawn)
    for kind, at_least, chosen in (
        (f" of generated images as asked for ({share:.0%})", 0.95, as_asked),
        (" of all generated images (as the judge sees them)", None, drawn),
    ):
        yield kind, at_least, [image.image for image in chosen], [image.seen for image in chosen]


def prompts(facet: str) -> list[str]:
    """One phrase for each value of a facet, for zero-shot classification."""
    if facet == "shape":
        return [f"a {shape}" for shape in SHAPES]
    if facet == "background":
        return [f"a thing on a {background}" for background in BACKGROUNDS]
    return [f"a {value} thing" for value in FACETS[facet]]


def check_judge(checkpoint: str, n: int = 4000) -> list[Figure]:
    """The judge's own accuracy on rendered images."""
    data = draw_scenes("evaluation", n)
    seen = AttributeClassifier(checkpoint).attributes(list(data.images))
    return [
        Figure(f"judge's own {facet} accuracy (rendered images)", float(np.mean(right)), 0.97, n)
        for facet in FACETS
        for right in [[getattr(scene, facet) in s for scene, s in zip(data.scenes, seen, strict=True)]]
    ]


def check_generator(
    checkpoint: str,
    n: int = 56,
    each: int = 4,
    overrides: Sequence[str] = (),
    sheet: Path | None = None,
) -> list[Figure]:
    """How often the attributes that a prompt names are there, for a judge outside the pipeline.

    `n` prompts of each kind, `each` images of every prompt. The generator is that of
    conf/generator/diffusion.yaml, changed by `overrides` (generator.steps=4).
    """
    generator = _generator(checkpoint, overrides)
    requests = held_out_requests(n)
    started = time.perf_counter()
    images = paint(generator, requests, each)
    speed = len(images) / (time.perf_counter() - started)
    drawn = judged(requests, images)
    if sheet is not None:
        shown = requests[:: max(len(requests) // 16, 1)]
        contact_sheet(judged(shown, paint(generator, shown, each=8)), sheet)
    kinds = {kind: fidelity([image for image in drawn if image.request.kind == kind]) for kind in KINDS}
    complete = [all(image.named.values()) for image in drawn]
    return [
        _share("named attributes recognized", fidelity(drawn), 0.9),
        Figure(
            "– mean over kinds of prompt", float(np.mean([s for s, _ in kinds.values()])), 0.9, len(kinds)
        ),
        *(_share(f"– {kind}", share, 0.85) for kind, share in kinds.items()),
        *(_share(f"– {name}", share) for name, share in by_attribute(drawn).items()),
        Figure("images with all that is named", float(np.mean(complete)), None, len(drawn)),
        Figure("images per second", speed, None, len(images)),
    ]


def check_sentences(checkpoint: str, n: int = 400) -> list[Figure]:
    """How well the cosine of two held-out phrases follows the attributes that they share."""
    concepts, phrases = _held_out_phrases(n)
    vectors = SentenceEncoder(checkpoint, device="cpu", batch_size=128).embed_texts(phrases)
    pairs = np.triu_indices(n, 1)
    cosines, shared = (vectors @ vectors.T)[pairs], shared_attributes(concepts)[pairs]
    return [
        Figure(
            "correlation of cosine and shared attributes",
            float(pearsonr(cosines, shared)[0]),
            0.9,
            len(shared),
        ),
        Figure("mean difference of the two", float(np.abs(cosines - shared).mean()), None, len(shared)),
    ]


def check_bert(checkpoint: str, n: int = 400) -> list[Figure]:
    """Whether BERTScore tells another wording of a concept from another concept."""
    concepts, phrases = _held_out_phrases(n)
    others = [phrase(concept, scene_rng("evaluation", 5, i)) for i, concept in enumerate(concepts)]
    bert = BertScore(checkpoint, layer=2, device="cpu", batch_size=128)
    same, shifted = bert.f1(phrases, others), bert.f1(phrases, [*others[1:], others[0]])
    differ = [a != b for a, b in zip(concepts, [*concepts[1:], concepts[0]], strict=True)]
    truth, scores = np.r_[np.ones(n), np.zeros(sum(differ))], np.r_[same, shifted[differ]]
    return [
        Figure(
            "AUROC of F1: same concept against another", float(roc_auc_score(truth, scores)), 0.8, len(truth)
        ),
        Figure("mean F1 of the same concept in other words", float(same.mean()), None, n),
        Figure("mean F1 of another concept", float(shifted[differ].mean()), None, sum(differ)),
    ]


def _held_out_phrases(n: int) -> tuple[list[Concept], list[str]]:
    concepts, phrases = [], []
    for index in range(n):
        rng = scene_rng("evaluation", 4, index)
        concepts.append(partial_concept(sample_scene(rng), rng))
        phrases.append(phrase(concepts[-1], rng))
    return concepts, phrases


CHECKS: dict[str, Callable[[str], list[Figure]]] = {
    "target": check_target,
    "target512": check_target_512,
    "sae": check_sae,
    "clip": check_clip,
    "captioner": check_captioner,
    "judge": check_judge,
    "generator": check_generator,
    "sentences": check_sentences,
    "bert": check_bert,
}


def main() -> int:
    """Print the figures of one model; the exit code is 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m dnr_bench.shapes.check", description=__doc__)
    parser.add_argument("model", choices=CHECKS)
    parser.add_argument("--checkpoint", help="a checkpoint directory (default: the embedded one)")
    parser.add_argument("--sheet", type=Path, help="generator: write a contact sheet (PNG) here")
    parser.add_argument("overrides", nargs="*", help="generator: config values such as generator.steps=4")
    arguments = parser.parse_intermixed_args()
    checkpoint = arguments.checkpoint or f"embedded:{arguments.model}"
    if arguments.model == "generator":
        figures = check_generator(checkpoint, overrides=arguments.overrides, sheet=arguments.sheet)
        figures += check_judge("embedded:judge")
    elif set(arguments.overrides) - {"debug=true"} or arguments.sheet:
        parser.error(f"--sheet and config values are for generator, not for {arguments.model}")
    else:
        figures = CHECKS[arguments.model](checkpoint)
    table = Table("figure", "value", "must reach", "n", title=f"{arguments.model}, held-out images")
    short = False
    for figure in figures:
        wanted = "" if figure.at_least is None else f"{figure.at_least:.2f}"
        fails = figure.at_least is not None and figure.value < figure.at_least
        short |= fails
        value = f"[bold red]{figure.value:.4f}[/]" if fails else f"{figure.value:.4f}"
        table.add_row(figure.name, value, wanted, str(figure.n))
    Console().print(table)
    return int(short)


def _generator(checkpoint: str, overrides: Sequence[str]) -> Generator:
    """The diffusion generator as runs use it, with another checkpoint and other values."""
    given = ["generator=diffusion", f"generator.checkpoint='{checkpoint}'", *overrides]
    return PartBuilder(load_config(*given)).part("generator", Generator)


def _share(name: str, share: tuple[float, int], at_least: float | None = None) -> Figure:
    value, n = share
    return Figure(name, value, at_least, n)


def _distinct(data: Scenes, first: int, n: int) -> list[int]:
    """The indices of n scenes from `first` on, no two with the same attributes."""
    seen: dict[frozenset[str], int] = {}
    for index in range(first, len(data.scenes)):
        seen.setdefault(data.scenes[index].attributes, index)
        if len(seen) == n:
            break
    return list(seen.values())


def _single_concepts() -> list[Concept]:
    return [Concept.of([attribute]) for attribute in FACET_OF if attribute != UNSEEN_SHAPE]


if __name__ == "__main__":
    raise SystemExit(main())
