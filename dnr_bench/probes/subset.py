"""Seeded subsets of data sets."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range


def check_n_images(n_images: int | None) -> None:
    """Raises `UsageError` for what is no size of a subset; None stands for the whole set."""
    check_range(2, 100_000_000, n_images=n_images)


def shuffled(total: int, seed: int) -> Int[np.ndarray, " total"]:
    """The numbers below `total` in the order in which a subset by this seed takes them."""
    return np.random.default_rng([seed, 41]).permutation(total)


def subset(total: int, n_images: int | None, seed: int) -> Int[np.ndarray, " n"]:
    """The places of `n_images` of `total` images, rising; None: of all. Too few raise `UsageError`."""
    if n_images is None:
        return np.arange(total)
    if n_images > total:
        raise UsageError(f"n_images={n_images}, but there are {total}")
    return np.sort(shuffled(total, seed)[:n_images])
