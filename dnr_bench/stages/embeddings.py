"""CLIP and sentence vectors, and text matches, each computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import ProbeSet, View
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Work
from dnr_bench.protocols import ImageTextEncoder, TextEncoder, TextMatcher
from dnr_bench.stages.lazy import Lazy

#: What is embedded together.
_BATCH = 256
_ROLE = "encoder"


def embed_views(
    store: Store, encoder: ImageTextEncoder, groups: Sequence[Sequence[View]]
) -> list[Float[np.ndarray, "_ dim"]]:
    """Unit vectors of the views of each group, stored one by one; all groups share batches."""
    settings = {"code": code_of(__name__, encoder), "encoder": encoder.fingerprint}
    found = store.fill_groups(
        "image_embeddings",
        groups,
        lambda view: {**settings, "images": view.name},
        Work(_ROLE, encoder, _of_views),
        batch=_BATCH,
    )
    return [np.stack([entry["vectors"] for entry in of_group]) for of_group in found]


def embed_texts(store: Store, encoder: TextEncoder, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of texts, stored one by one."""
    settings = {"code": code_of(__name__, encoder), "encoder": encoder.fingerprint}
    (found,) = store.fill_groups(
        "text_embeddings",
        [texts],
        lambda text: {**settings, "text": text},
        Work(_ROLE, encoder, _of_texts),
        batch=_BATCH,
    )
    return np.stack([entry["vectors"] for entry in found])


def match_texts(
    store: Store, matcher: TextMatcher, texts: Sequence[str], references: Sequence[str]
) -> Float[np.ndarray, " pairs"]:
    """F1 of each text against the reference at its place, stored pair by pair."""
    settings = {"code": code_of(__name__, matcher), "matcher": matcher.fingerprint}
    (found,) = store.fill_groups(
        "text_matches",
        [list(zip(texts, references, strict=True))],
        lambda pair: {**settings, "text": pair[0], "reference": pair[1]},
        Work("matcher", matcher, _matches),
        batch=1024,
    )
    return np.asarray(found, float)


def probe_embeddings(
    store: Store, encoder: ImageTextEncoder, probe: ProbeSet, dim: int
) -> Float[np.ndarray, "images dim"]:
    """CLIP unit vectors of all images, mapped from their file."""
    work = Work(_ROLE, encoder, partial(_of_images, probe))
    code = code_of(__name__, encoder, probe.images)
    key = {"code": code, "encoder": encoder.fingerprint, "probe": probe.digest}
    return store.fill_arrays("probe_embeddings", [key], len(probe.images), [dim], lambda _: work)[0]


def _of_views(encoder: ImageTextEncoder, views: Sequence[View]) -> Iterator[dict[str, np.ndarray]]:
    images = Lazy(len(views), lambda place: views[place].pixels)
    return ({"vectors": vector} for vector in encoder.embed_images(images))


def _of_texts(encoder: TextEncoder, texts: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    return ({"vectors": vector} for vector in encoder.embed_texts(texts))


def _of_images(
    probe: ProbeSet, encoder: ImageTextEncoder, ranges: Sequence[range]
) -> Iterator[dict[str, np.ndarray]]:
    return ({"0": encoder.embed_images(probe.images[rows.start : rows.stop])} for rows in ranges)


def _matches(matcher: TextMatcher, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
    return map(float, matcher.f1([text for text, _ in pairs], [other for _, other in pairs]))
