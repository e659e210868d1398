"""Probing sets whose images are files: each is checked once before a run relies on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from PIL import ImageColor

from dnr_bench.data.images import Image, ProbeSet, Skipped
from dnr_bench.infra.batches import in_threads
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.probes.decoding import MOST_PIXELS, Color, Decoded, UnreadableImageError, check, decode
from dnr_bench.probes.subset import check_n_images, shuffled
from dnr_bench.stages.lazy import Lazy

_log = logging.getLogger(__name__)

#: What happens with images that cannot be read: they are left out and listed, or nothing is run.
OnError = Literal["skip", "error"]
_CHUNK = 256
#: An image's id, why it cannot be read, and whether some of it is transparent.
Note = tuple[str, str | None, bool]
#: In place of an id: the bytes of an image could not be read.
_UNREAD = "unread"
#: Of an error message, so many images are named; all of them are in the log and in result.json.
_NAMED = 5


@dataclass(frozen=True)
class Checking:
    """on_error: what happens with unreadable images. max_pixels: a larger image counts as unreadable.

    background: the color that transparent areas are laid on, by name or as #rrggbb.

    store: the folder of the store, where it is noted which files could be read: a file is checked only
    once, until it changes.
    """

    on_error: OnError
    max_pixels: int
    background: str
    store: str

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= MOST_PIXELS:
            raise UsageError(f"max_pixels={self.max_pixels} must lie in 1..{MOST_PIXELS}")
        _ = self.color

    @property
    def color(self) -> Color:
        """The background as red, green and blue."""
        try:
            red, green, blue = ImageColor.getrgb(self.background)[:3]
        except ValueError as error:
            raise UsageError(
                f"background={self.background!r} is no color; it can be a name (white) or #rrggbb"
            ) from error
        return red, green, blue

    def decode(self, content: bytes) -> Decoded:
        """The pixels of an image file."""
        return decode(content, self.max_pixels, self.color)


@dataclass(frozen=True)
class Source:
    """Encoded images by number: `name` for people, `state` changes when the bytes do, `read` gives them."""

    names: Sequence[str]
    state: Callable[[int], object]
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Found:
    """The numbers of the readable images that were chosen, their ids, and those that were skipped."""

    numbers: Sequence[int]
    ids: Sequence[str]
    skipped: Sequence[Skipped]

    def images(self, source: Source, checking: Checking) -> Lazy[Image]:
        """The images themselves, decoded when they are asked for."""

        def load(index: int) -> Image:
            number = self.numbers[index]
            try:
                return checking.decode(source.read(number)).pixels
            except (OSError, UnreadableImageError) as error:
                raise RunError(f"{source.names[number]} has changed since it was checked: {error}") from error

        return Lazy(len(self.numbers), load)


def readable(source: Source, checking: Checking, n_images: int | None, seed: int, where: str) -> Found:
    """`n_images` readable images, chosen by the seed and in the source's order; None: all of them.

    Only as many are checked as are needed. Images with the same bytes count once, the first of them. Too few
    images raise `UsageError`, and so do none at all; `where` names the set for people.
    """
    check_n_images(n_images)
    order = list(range(len(source.names)))
    if n_images is not None and n_images < len(order):
        order = shuffled(len(order), seed).tolist()
    found: dict[str, int] = {}
    skipped: list[Skipped] = []
    transparent = 0
    wanted = n_images if n_images is not None else len(order)
    start = 0
    while len(found) < wanted and start < len(order):
        numbers = sorted(order[start : start + wanted - len(found)])
        start += len(numbers)
        for number, (name, reason, below) in zip(numbers, _checked(source, numbers, checking), strict=True):
            transparent += below
            if reason is not None:
                skipped.append(Skipped(source.names[number], reason))
            else:
                found[name] = min(number, found.get(name, number))
    if transparent:
        _log.warning(
            "%d images of %s have transparent areas, which are laid on %s (background)",
            transparent, where, checking.background,
        )  # fmt: skip
    if skipped:
        _report(skipped, checking.on_error, where)
    if len(found) < 2 or (n_images is not None and len(found) < n_images):
        raise UsageError(
            f"{where} has {len(found)} different images that can be read, and"
            f" {n_images or 'at least 2'} are asked for; {len(skipped)} cannot be read"
        )
    chosen = sorted((number, name) for name, number in found.items())
    return Found([number for number, _ in chosen], [name for _, name in chosen], skipped)


def _checked(source: Source, numbers: Sequence[int], checking: Checking) -> list[Note]:
    """For each image its id and None, or no id and why it cannot be read; and whether it is transparent."""
    chunks = [numbers[first : first + _CHUNK] for first in range(0, len(numbers), _CHUNK)]
    code = code_of(__name__)
    keys: list[Key] = [
        {
            "code": code,
            "max_pixels": checking.max_pixels,
            "background": checking.color,
            "files": [[source.names[number], source.state(number)] for number in chunk],
        }
        for chunk in chunks
    ]

    def one(number: int) -> Note:
        try:
            content = source.read(number)
        except OSError as error:
            return _UNREAD, str(error.strerror or error), False
        try:
            transparent = check(content, checking.max_pixels, checking.color)
        except UnreadableImageError as error:
            return "", str(error), False
        below = bytes(checking.color) if transparent else b""  # other backgrounds, other pixels
        return sha256(content + below).hexdigest(), None, transparent

    def compute(indices: list[int]) -> Iterator[list[Note]]:
        for index in indices:
            yield list(in_threads(one, chunks[index]))

    stored = Store(Path(checking.store)).fill("images to read", keys, compute, batch=8)
    noted: list[Note] = [(name, reason, below) for chunk in stored for name, reason, below in chunk]
    # a file that could not be read at all is tried anew: disks recover, and permissions change
    return [one(n) if note[0] == _UNREAD else note for n, note in zip(numbers, noted, strict=True)]


def _report(skipped: Sequence[Skipped], on_error: OnError, where: str) -> None:
    named = "; ".join(f"{item.name} ({item.reason})" for item in skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    message = f"{len(skipped)} images of {where} cannot be read: {named}{more}"
    if on_error == "error":
        raise RunError(f"{message}. probe.on_error=skip goes on without them")
    _log.warning("%s", message)
    for item in skipped:
        _log.info("skipped %s: %s", item.name, item.reason)


def probe_set(
    name: str,
    source: Source,
    found: Found,
    checking: Checking,
    captions: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> ProbeSet:
    """The set of the images found; `captions` and `classes` are those of all images of the source."""
    return ProbeSet(
        name=name,
        ids=list(found.ids),
        images=found.images(source, checking),
        captions=[captions[number] for number in found.numbers] if captions is not None else None,
        classes=[classes[number] for number in found.numbers] if classes is not None else None,
        skipped=list(found.skipped),
        names=[source.names[number] for number in found.numbers],
    )
