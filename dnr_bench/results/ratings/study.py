"""A rating study: what people are shown and asked, and who said what they are shown.

The one reader and writer of study.json, the key of a study: raters see neither methods nor neurons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.plain_values import structured
from dnr_bench.infra.text_files import read_text

#: Raise it whenever a field is added, removed or read in another way.
SCHEMA: Literal[1] = 1
#: The 1 to 5 scale of DnD's studies (A.1.6): what 1, 3 and 5 mean is on the page.
SCALE = (1, 2, 3, 4, 5)
#: The name under which labels of other neurons are rated: what a label gets that fits by chance alone.
CHANCE = "another neuron's label"
_NAME = "study.json"


@dataclass(frozen=True)
class ShownLabel:
    """A text that is rated. methods: whose label it is; those that say the same are rated once."""

    id: str
    text: str
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """Pictures and labels that are judged together.

    asks: "ratings", a rating per label and which label is best; or "pictures", which pictures the single
    label describes. montage: the file of the pictures. images: their places in the probing set, where that
    matters. expected: the known answer of an attention check, a rating per label or the places of pictures;
    empty for what is really asked.
    """

    id: str
    asks: Literal["ratings", "pictures"]
    montage: str
    pictures: int
    labels: tuple[ShownLabel, ...]
    neuron: str = ""
    layer: str = ""
    images: tuple[int, ...] = ()
    expected: tuple[int, ...] = ()

    @property
    def is_check(self) -> bool:
        """Whether the answer is known."""
        return bool(self.expected)

    @cached_property
    def by_id(self) -> dict[str, ShownLabel]:
        """Its labels."""
        return {label.id: label for label in self.labels}


@dataclass(frozen=True)
class Turn:
    """An item on a page, and the order of its labels there."""

    item: str
    order: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """What one rater is asked, in order. The id is no number, so that nobody guesses another rater's."""

    id: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Sample:
    """The images that were drawn to estimate how a label's presence goes with a neuron's activation.

    Each list has an entry per draw, and an image that was drawn twice has two: place in the probing set,
    chance to be drawn, standardized activation, presence as the model saw it. n_images: of the probing set.
    planned: the standard error that is expected if the model is right. common: whether the model sees the
    label in more than half of all images; then its absence is what is estimated.
    """

    neuron: str
    layer: str
    label: str
    methods: tuple[str, ...]
    images: tuple[int, ...]
    chances: tuple[float, ...]
    activations: tuple[float, ...]
    presence: tuple[float, ...]
    n_images: int
    planned: float
    common: bool = False


@dataclass(frozen=True)
class Study:
    """All that is asked, and whose labels they are.

    methods: in the order in which runs were named. samples: of studies that ask about pictures. unlabeled:
    by method the neurons that it gave no label, which nobody can rate. code: shown at the end, for platforms
    that pay by it.
    """

    title: str
    methods: tuple[str, ...]
    items: tuple[Item, ...]
    pages: tuple[Page, ...]
    samples: tuple[Sample, ...] = ()
    unlabeled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code: str = ""
    schema: Literal[1] = SCHEMA

    @cached_property
    def id(self) -> str:
        """Names all that is in it: answers to another study are told by it."""
        return sha256(self._content.encode()).hexdigest()[:16]

    @cached_property
    def by_item(self) -> dict[str, Item]:
        """Its items by id."""
        return {item.id: item for item in self.items}

    @cached_property
    def by_page(self) -> dict[str, Page]:
        """Its pages by id."""
        return {page.id: page for page in self.pages}

    @property
    def asks(self) -> Literal["ratings", "pictures"]:
        """What all of its items ask for."""
        return self.items[0].asks

    @property
    def neurons(self) -> list[str]:
        """The neurons that are judged."""
        judged = [item.neuron for item in self.items if item.neuron and not item.is_check]
        return list(dict.fromkeys([*judged, *(sample.neuron for sample in self.samples)]))

    @cached_property
    def _content(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write study.json, whole or not at all."""
        path = folder / _NAME
        with writing(path) as partial:
            partial.write_text(self._content, encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Study:
        """The study in a folder, or in its study.json.

        Raises:
            UsageError: there is none, or the file is none.
        """
        file = path / _NAME if path.is_dir() else path
        try:
            content = json.loads(read_text(file, "study"))
            if isinstance(content, dict) and "pages" in content and content.get("schema") != SCHEMA:
                raise UsageError(
                    f"{file} was written by another version of dnr_bench (schema {content.get('schema')};"
                    f" this one reads {SCHEMA}): build the study again"
                )
            found = structured(content, cls)
            found._check()
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is no rating study: {error}") from error
        return found

    def _check(self) -> None:
        """Raises `ValueError` where parts name what is not there."""
        if len(self.by_item) != len(self.items) or len(self.by_page) != len(self.pages):
            raise ValueError("two of its items or pages have the same id")
        for page in self.pages:
            for turn in page.turns:
                if turn.item not in self.by_item or set(turn.order) != set(self.by_item[turn.item].by_id):
                    raise ValueError(f"page {page.id} asks for an item or a label that is not there")
        if not self.items or not self.pages or any(not item.labels for item in self.items):
            raise ValueError("it asks nothing")
        if any(item.asks != self.asks for item in self.items):
            raise ValueError("it asks for ratings and for pictures")
        known = {(sample.label, image) for sample in self.samples for image in sample.images}
        for item in self.items:
            if item.images and not {(item.labels[0].text, image) for image in item.images} <= known:
                raise ValueError(f"item {item.id} asks for an image that no sample has drawn")
        for sample in self.samples:
            numbers = (*sample.chances, *sample.activations, *sample.presence, sample.planned)
            if sample.n_images < 1 or not all(map(math.isfinite, numbers)):
                raise ValueError(f"the sample of {sample.neuron} holds what is no number")
            lists = (sample.images, sample.chances, sample.activations, sample.presence)
            if len({len(of_one) for of_one in lists}) > 1 or not all(0 < c <= 1 for c in sample.chances):
                raise ValueError(f"the sample of {sample.neuron} has draws without a chance")
        names = [item.montage for item in self.items] + [page.id for page in self.pages]
        if any(not name.replace("-", "").isalnum() for name in names):
            raise ValueError("a name of a file or page holds more than letters, digits and dashes")
