"""The page of one rater: self-contained, from a file or any web host, blind to methods and neurons."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import cv2
import numpy as np

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.montage import Montage
from dnr_bench.outputs.pages.page import page_template
from dnr_bench.results.ratings.answers import FORMAT
from dnr_bench.results.ratings.design import MINUS
from dnr_bench.results.ratings.study import SCALE, Item, Page, ShownLabel, Study

#: What 1 to 5 mean (DnD A.1.6).
MEANINGS = ("strongly disagree", "disagree", "neither", "agree", "strongly agree")
_INSTRUCTIONS = {
    "ratings": (
        "You will see groups of pictures with a few short descriptions. Each group has something in common.",
        "Rate each description: does it fit most of the pictures? 1 means “strongly disagree”, 3 “neither"
        " agree nor disagree”, 5 “strongly agree”. Then choose the description that fits best; it should be"
        " one of those that you rated highest.",
        "There are no trick questions, but a few checks whether people read. Look at the pictures, not at how"
        " well a description is written.",
    ),
    "pictures": (
        "You will see a description and some pictures. Choose every picture that the description is true of.",
        "A picture counts even if it shows other things as well. If the description fits no picture, choose"
        " “none of them”.",
        "A few questions check whether people read.",
    ),
}
_SUMS = (
    f"Some descriptions are sums: “red + star {MINUS} dotted” fits pictures the better the more they are red"
    " or show a star, and the less they are dotted."
)
_RED, _BLUE, _PAPER = (214, 40, 40), (40, 80, 200), (236, 236, 232)
_SIZE = 96


def rater_page(study: Study, page: Page, montages: Mapping[str, Montage], post: str = "") -> str:
    """The page of one rater, as HTML.

    Args:
        study: the whole study, of which the page holds what this rater sees.
        page: who sees what.
        montages: by name.
        post: the address that answers are sent to; "": they are downloaded only.

    Raises:
        UsageError: the address is none.
    """
    items = [study.by_item[turn.item] for turn in page.turns]
    asks = study.asks
    practice = list(_practice(asks))
    needed = {item.montage: montages[item.montage] for item in items}
    needed |= {item.montage: montage for item, montage, _ in practice}
    content = {
        "format": FORMAT,
        "study": study.id,
        "page": page.id,
        "asks": asks,
        "post": post,
        "code": study.code,
        "scale": SCALE,
        "meanings": MEANINGS,
        "instructions": [*_INSTRUCTIONS[asks], *([_SUMS] if _has_sums(items) else [])],
        "practice": [
            {**_shown(item, [label.id for label in item.labels]), "fits": f} for item, _, f in practice
        ],
        "items": [_shown(study.by_item[turn.item], turn.order) for turn in page.turns],
        "montages": {n: {"webp": m.data, "n": m.n, "columns": m.columns} for n, m in needed.items()},
    }
    template = page_template("rater.html.j2")
    return template.render(title=study.title, connect=_connect(post), study=content)


def _shown(item: Item, order: Sequence[str]) -> dict[str, object]:
    """An item without what would tell its neuron, methods or answer."""
    return {
        "id": item.id,
        "asks": item.asks,
        "montage": item.montage,
        "pictures": item.pictures,
        "labels": [{"id": label, "text": item.by_id[label].text} for label in order],
    }


def _has_sums(items: Sequence[Item]) -> bool:
    texts = [label.text for item in items for label in item.labels]
    return any(f" {sign} " in f" {text}" for text in texts for sign in ("+", MINUS))


def _connect(post: str) -> str:
    """Where the page may connect to: only there where answers go."""
    if not post:
        return "'none'"
    if re.fullmatch(r"/[\w/-]*", post):
        return "'self'"
    parts = urlsplit(post)
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:\[\]-]+", parts.netloc):
        raise UsageError(f"--post {post!r} is no address: give one like https://example.org/answers")
    return f"{parts.scheme}://{parts.netloc}"


def _practice(asks: str) -> Iterator[tuple[Item, Montage, object]]:
    """Practice items with their pictures, and what a careful person answers."""
    labels = (ShownLabel("p0", "blue squares"), ShownLabel("p1", "red circles"))
    if asks == "ratings":
        montage = Montage.of([_drawn(True, seed) for seed in range(10)], _SIZE)
        yield Item("practice0", "ratings", "practice0", 10, labels), montage, {"p0": [1, 2], "p1": [4, 5]}
    else:
        round_ones = (1, 4, 5, 9)
        montage = Montage.of([_drawn(place in round_ones, place) for place in range(12)], _SIZE)
        yield Item("practice0", "pictures", "practice0", 12, labels[1:]), montage, list(round_ones)


def _drawn(is_circle: bool, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    canvas = np.full((_SIZE, _SIZE, 3), _PAPER, np.uint8)
    x, y = (int(edge) for edge in rng.integers(30, _SIZE - 30, size=2))
    radius = int(rng.integers(16, 28))
    if is_circle:
        cv2.circle(canvas, (x, y), radius, _RED, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x - radius, y - radius), (x + radius, y + radius), _BLUE, -1)
    return canvas
