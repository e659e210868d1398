"""What several raters, who err, say together: a Bayesian vote. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit

#: A rater is taken for one who is right in 9 of 10 pictures, as sure as ten pictures of each kind would make.
_RIGHT, _WRONG = 9.0, 1.0
_MOST_ROUNDS, _SETTLED = 200, 1e-6
#: A model of images is never quite sure.
_LEAST = 1e-3
#: Items of which the model says about the same; and how many of them its own word is worth there.
_EDGES, _WORTH = (0.05, 0.5, 0.95), 2.0


@dataclass(frozen=True)
class Vote:
    """posterior: how probable each item's yes is. hits, rejections: of each rater, how often a yes is called
    yes, and a no is called no."""

    posterior: Float[np.ndarray, " items"]
    hits: Float[np.ndarray, " raters"]
    rejections: Float[np.ndarray, " raters"]


def vote(
    said: Bool[np.ndarray, " votes"],
    items: Int[np.ndarray, " votes"],
    raters: Int[np.ndarray, " votes"],
    prior: Float[np.ndarray, " items"],
) -> Vote:
    """The probability of each item, and how reliable each rater is, each from the other in turn.

    Dawid and Skene's model (1979) with Beta priors on raters' reliability, fitted by expectation
    maximization. A single wrong yes to a picture of which a model is sure that it shows nothing does not
    count for much: among many such pictures it would. How far the model can be believed is learned, too: the
    prior of items of which it says about the same is how many of them people call a yes. So a model that is
    sure and wrong does not outvote people.

    Args:
        said: yes or no.
        items, raters: of each vote; numbers from 0.
        prior: the probability of yes as a model sees it, before anybody has looked.
    """
    n_raters = int(raters.max()) + 1 if len(raters) else 0
    model = np.clip(prior, _LEAST, 1 - _LEAST)
    groups = np.digitize(model, _EDGES)
    hits = rejections = np.full(n_raters, _RIGHT / (_RIGHT + _WRONG))
    posterior = _shares(items, said, len(prior), model)
    for _ in range(_MOST_ROUNDS):
        before = logit(_believed(model, posterior, groups))
        weight = np.where(
            said, np.log(hits / (1 - rejections))[raters], np.log((1 - hits) / rejections)[raters]
        )
        found = expit(before + np.bincount(items, weight, minlength=len(prior)))
        hits = _share(found[items], said, raters, n_raters)
        rejections = _share(1 - found[items], ~said, raters, n_raters)
        moved = float(np.abs(found - posterior).max(initial=0.0))
        posterior = found
        if moved < _SETTLED:
            break
    return Vote(posterior, hits, rejections)


def _shares(
    items: Int[np.ndarray, " votes"],
    said: Bool[np.ndarray, " votes"],
    n: int,
    model: Float[np.ndarray, " items"],
) -> Float[np.ndarray, " items"]:
    """The share of yes of each item, the model's word counting as one vote: where to begin."""
    found: np.ndarray = (np.bincount(items, said, minlength=n) + model) / (
        np.bincount(items, minlength=n) + 1
    )
    return found


def _believed(
    model: Float[np.ndarray, " items"],
    posterior: Float[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
) -> Float[np.ndarray, " items"]:
    """The prior of each item: the mean of what is known of those of which the model says about the same."""
    n = len(_EDGES) + 1
    sizes = np.bincount(groups, minlength=n)
    means = np.bincount(groups, model, minlength=n) / np.maximum(sizes, 1)
    found = (np.bincount(groups, posterior, minlength=n) + _WORTH * means) / (sizes + _WORTH)
    believed: np.ndarray = np.clip(found, _LEAST, 1 - _LEAST)[groups]
    return believed


def _share(
    mass: Float[np.ndarray, " votes"],
    right: Bool[np.ndarray, " votes"],
    raters: np.ndarray,
    n: int,
) -> Float[np.ndarray, " raters"]:
    """How often each rater is right, of votes that count `mass` each."""
    good = np.bincount(raters, mass * right, minlength=n)
    found: np.ndarray = (good + _RIGHT) / (np.bincount(raters, mass, minlength=n) + _RIGHT + _WRONG)
    return found
