"""Does a text-to-image model draw what it is told? Prompts of the shapes world, and a judge's answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from dnr_bench.data.images import Image
from dnr_bench.protocols import Generator
from dnr_bench.shapes.attribute_classifier import AttributeClassifier
from dnr_bench.shapes.concepts import FACET_OF, Concept
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES, caption, held_out_prompt, held_out_scene, scene_rng
from dnr_bench.stages.concept_images import image_seed

KINDS = ("single attribute", "pair", "full description", "alternatives")


@dataclass(frozen=True)
class Request:
    """A prompt and what its images must show."""

    kind: str
    prompt: str
    concept: Concept


@dataclass(frozen=True)
class Drawn:
    """An image of a request, and the attributes that the judge sees in it."""

    request: Request
    image: Image
    seen: frozenset[str]

    @property
    def named(self) -> dict[str, bool]:
        """For each attribute that the prompt names whether it is there; alternatives count as one."""
        if len(self.request.concept.alternatives) > 1:
            return {str(self.request.concept): self.request.concept.matches(self.seen)}
        return {attribute: attribute in self.seen for attribute in sorted(self.request.concept.attributes)}


def held_out_requests(n: int, kinds: Sequence[str] = KINDS) -> list[Request]:
    """`n` distinct prompts of each of the kinds (fewer where there are no more) that training left out.

    No prompt was ever shown in this wording, and full descriptions are of combinations never shown at all.
    """
    found: dict[str, Request] = {}
    wanted = dict.fromkeys(kinds, n)
    for index in range(2000 * n):
        if not any(wanted.values()):
            break
        rng = scene_rng("evaluation", 1, index)
        scene = sample_scene(rng)
        if held_out_scene(scene):
            prompt = caption(scene, int(rng.integers(len(CAPTION_TEMPLATES))))
            request = Request("full description", prompt, Concept.of(scene.attributes))
        else:
            concept = partial_concept(scene, rng)
            request = Request(_kind(concept), phrase(concept, rng), concept)
        unseen = request.kind == "full description" or held_out_prompt(request.prompt)
        if unseen and wanted.get(request.kind, 0) and request.prompt not in found:
            wanted[request.kind] -= 1
            found[request.prompt] = request
    return sorted(found.values(), key=lambda request: KINDS.index(request.kind))


def paint(generator: Generator, requests: Sequence[Request], each: int) -> list[Image]:
    """`each` images of every request, with seeds of their own."""
    wanted = [(request.prompt, image_seed(0, request.prompt, i)) for request in requests for i in range(each)]
    return list(generator.generate([prompt for prompt, _ in wanted], [of_image for _, of_image in wanted]))


def judged(requests: Sequence[Request], images: Sequence[Image]) -> list[Drawn]:
    """The images of the requests, equally many of each, with what the embedded judge sees in them."""
    each = len(images) // len(requests)
    of_image = [request for request in requests for _ in range(each)]
    seen = AttributeClassifier("embedded:judge").attributes(images)
    return [Drawn(r, image, found) for r, image, found in zip(of_image, images, seen, strict=True)]


def fidelity(drawn: Sequence[Drawn]) -> tuple[float, int]:
    """The share of named attributes that are recognized, and how many there are."""
    answers = [shown for image in drawn for shown in image.named.values()]
    return float(np.mean(answers)), len(answers)


def by_attribute(drawn: Sequence[Drawn]) -> dict[str, tuple[float, int]]:
    """Fidelity of each single attribute, over all prompts that name it and no alternative."""
    answers: dict[str, list[bool]] = defaultdict(list)
    for image in drawn:
        for attribute, shown in image.named.items():
            answers[attribute].append(shown)
    return {a: (float(np.mean(answers[a])), len(answers[a])) for a in FACET_OF if a in answers}


def contact_sheet(drawn: Sequence[Drawn], path: Path) -> None:
    """A row of images for each request, its prompt beside; red frames where the judge misses something."""
    rows: dict[Request, list[Drawn]] = defaultdict(list)
    for image in drawn:
        rows[image.request].append(image)
    side, text, gap = drawn[0].image.shape[0], 450, 6
    columns = max(map(len, rows.values()))
    sheet = PILImage.new("RGB", (text + columns * (side + gap), len(rows) * (side + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (request, images) in enumerate(rows.items()):
        top = row * (side + gap)
        pen.text((gap, top + side // 2 - 6), request.prompt, fill="black")
        for column, image in enumerate(images):
            left = text + column * (side + gap)
            if not all(image.named.values()):
                pen.rectangle((left - 2, top, left + side + 1, top + side + 3), fill="red")
            sheet.paste(PILImage.fromarray(image.image), (left, top + 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _kind(concept: Concept) -> str:
    if len(concept.alternatives) > 1:
        return "alternatives"
    return {1: "single attribute", 2: "pair"}.get(len(concept.attributes), "other")
