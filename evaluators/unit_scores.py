"""What units are like, without any label: is a label bad, or does none fit this unit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
from jaxtyping import Float
from sklearn.cluster import KMeans

from dnr_bench.data.exemplars import Exemplars
from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import Probe, judged_by, knows
from dnr_bench.session import Evaluator, Session, blocks
from dnr_bench.stages.lazy import picked
from evaluators.label_tables import held_out_correlations, label_texts, unit_correlations

_CONTROLS = 200


class UnitScores(Evaluator):
    """clarity, polysemanticity, intruder, redundancy and localization of each unit that fires.

    The first three look at the CLIP vectors of the images that a unit's exemplars come from (after
    SemanticLens, Dreyer et al. 2025), the last two at activations:

    *clarity*: how much more alike exemplars are than random probing images are: the mean cosine of pairs, 0
    as among random images, 1 where all are equal. *polysemanticity*: k-means parts the exemplars in two; the
    share of their variance that lies between the two groups. *intruder*: `n_shown` exemplars and a random
    image that leaves the unit below its median: how often the encoder finds the image that is least like the
    others. *redundancy*: the highest correlation, over the probing set, with another unit of the layer.
    *localization*: which share of an activation map stays empty, on average over the exemplars: 1 - (sum m)^2
    / (n sum m^2).

    The table unit_verdicts says of each labeled unit whether its label fits, or is bad (another label of the
    run fits better by `margin`), or whether no label of the run fits; then units whose clarity is below
    `clear` are unclear: there may be nothing to name. Fits are correlations over held-out images, which are
    low for what few images show.
    """

    def __init__(
        self, images: Probe, n_trials: int, n_shown: int, fits: float, margin: float, clear: float
    ) -> None:
        check_range(1, 10_000, n_trials=n_trials)
        check_range(2, 1_000, n_shown=n_shown)
        check_range(0, 1, fits=fits)
        check_range(0, 1, margin=margin)
        check_range(0, 1, clear=clear)
        self.images, self.n_trials, self.n_shown = images, n_trials, n_shown
        self.fits, self.margin, self.clear = fits, margin, clear

    def check_images(self, session: Session) -> None:
        """Its images must not be the run's own; a unit needs more exemplars than an intruder test shows."""
        session.held_out.check(self.images.load(session.seed))
        if session.exemplar_settings.n < self.n_shown:
            raise UsageError(
                f"evaluator.unit_scores.n_shown={self.n_shown} is more than exemplars.n="
                f"{session.exemplar_settings.n}"
            )

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """A scorecard per score over all units, and the verdicts; none where no unit fires."""
        exemplars = session.exemplars([e.neuron for e in description.explanations])
        alive = [e for e in description.explanations if e.neuron in exemplars]
        if not alive:
            return []
        dead = [e for e in description.explanations if e.neuron not in exemplars]
        seen = self._seen(alive, exemplars, session)
        judge = judged_by(session.encoder)
        chance = {"clarity": 0.0, "intruder": 1 / (self.n_shown + 1)}
        cards: list[Scorecard | Table] = [
            Scorecard.of_neurons(
                "unit_scores",
                name,
                alive,
                values,
                unit="correlation" if name == "redundancy" else "share",
                higher_is_better=None,
                chance=chance.get(name),
                judge=judge if name in ("clarity", "polysemanticity", "intruder") else "",
                unscored=dead,
            )
            for name, values in seen.items()
        ]
        clarity = dict(zip([e.neuron for e in alive], seen["clarity"], strict=True))
        return [*cards, *self._verdicts(description, clarity, session)]

    def _seen(
        self, alive: Sequence[Explanation], exemplars: Mapping[Neuron, Exemplars], session: Session
    ) -> dict[str, Float[np.ndarray, " units"]]:
        neurons = [e.neuron for e in alive]
        probe = session.probe_vectors()
        rng = np.random.default_rng([19, session.seed])
        chosen = rng.permutation(len(probe))[:_CONTROLS]
        usual = _mean_cosine(np.asarray(probe[np.sort(chosen)]))
        found: dict[str, list[float]] = {"clarity": [], "polysemanticity": [], "intruder": []}
        for neuron in neurons:
            # whole images, as the others are: a crop would be known by its framing
            vectors = np.asarray(probe[_images_of(exemplars[neuron])])
            column = session.activations(neuron.layer).values[:, neuron.unit]
            low = np.flatnonzero(column <= np.median(column))[:: self._thin(len(column))]
            own = np.random.default_rng([session.seed, crc32(str(neuron).encode())])
            found["clarity"].append((_mean_cosine(vectors) - usual) / max(1 - usual, 1e-9))
            found["polysemanticity"].append(polysemanticity(vectors, session.seed))
            found["intruder"].append(
                intruders_found(vectors, np.asarray(probe[low]), self.n_shown, self.n_trials, own)
            )
        by_name = {name: np.asarray(values) for name, values in found.items()}
        by_name["redundancy"] = _redundancy(neurons, session)
        by_name["localization"] = _localization(neurons, exemplars, session)
        return by_name

    @staticmethod
    def _thin(n_images: int) -> int:
        """Of many images every so-manieth is enough to draw intruders from."""
        return max(n_images // 5_000, 1)

    def _verdicts(
        self, description: Description, clarity: Mapping[Neuron, float], session: Session
    ) -> list[Table]:
        labeled, texts, n_labels = label_texts(description)
        labels = texts[:n_labels]
        if not labeled or not knows(session.encoder, labels):
            return []
        fit = held_out_correlations(labeled, labels, self.images.load(session.seed), session)
        rows = []
        for row, e in enumerate(labeled):
            clearness = float(clarity.get(e.neuron, np.nan))
            own, best = fit[row, labels.index(e.labels[0])], int(np.argmax(np.nan_to_num(fit[row], nan=-1)))
            rows.append(
                {
                    "neuron": str(e.neuron),
                    "label": e.labels[0],
                    "fit": float(own),
                    "best label of the run": labels[best],
                    "its fit": float(fit[row, best]),
                    "clarity": clearness,
                    "verdict": verdict(own, fit[row, best], self.fits, self.margin, clearness >= self.clear),
                }
            )
        return [Table("unit_verdicts", rows)]


def verdict(own: float, best: float, fits: float, margin: float, is_clear: bool) -> str:
    """Whether a unit has a fitting label, a bad one, or one of a kind that no label fits.

    own, best: the held-out correlation of its label, and of the run's label that fits it best.
    """
    if not best >= fits:
        return "no label fits" if is_clear else "unclear unit"
    return "label fits" if own >= fits and best - own <= margin else "bad label"


def polysemanticity(vectors: Float[np.ndarray, "exemplars dim"], seed: int) -> float:
    """The share of the exemplars' variance between two groups of them; 0 where all are equal."""
    centered = vectors - vectors.mean(axis=0)
    total = float((centered**2).sum())
    if total < 1e-9 or len(vectors) < 3:
        return 0.0
    parted = KMeans(2, n_init=5, random_state=seed % 2**32).fit(centered)
    return 1 - float(parted.inertia_) / total


def intruders_found(
    vectors: Float[np.ndarray, "exemplars dim"],
    others: Float[np.ndarray, "images dim"],
    n_shown: int,
    n_trials: int,
    rng: np.random.Generator,
) -> float:
    """In which share of trials the one image among exemplars is least like the rest (mean cosine)."""
    right = 0.0
    for _ in range(n_trials):
        shown = vectors[rng.permutation(len(vectors))[:n_shown]]
        intruder = others[rng.integers(len(others))]
        together = np.vstack([shown, intruder])
        likeness = (together @ together.T).sum(axis=1) - 1
        least = np.flatnonzero(likeness <= likeness.min() + 1e-9)
        right += (len(shown) in least) / len(least)
    return right / n_trials


def _images_of(exemplars: Exemplars) -> list[int]:
    """The places of the distinct images that exemplars, whole or cropped, come from."""
    return sorted({item.index for item in exemplars.items})


def _mean_cosine(vectors: Float[np.ndarray, "images dim"]) -> float:
    """The mean over pairs of different images; 1 where there is one image only."""
    n = len(vectors)
    total = float((vectors.sum(axis=0, dtype=float) ** 2).sum())
    return (total - n) / (n * (n - 1)) if n > 1 else 1.0


def _redundancy(neurons: Sequence[Neuron], session: Session) -> Float[np.ndarray, " units"]:
    """The highest correlation of each unit with another one of its layer, described or not."""
    found = np.empty(len(neurons))
    for layer in dict.fromkeys(neuron.layer for neuron in neurons):
        values = session.activations(layer).values
        rows = [row for row, neuron in enumerate(neurons) if neuron.layer == layer]
        units = [neurons[row].unit for row in rows]
        table = unit_correlations(values, values[:, units].astype(float)).T
        table[range(len(units)), units] = np.nan
        found[rows] = [np.nanmax(of_unit) if not np.isnan(of_unit).all() else np.nan for of_unit in table]
    return found


def _localization(
    neurons: Sequence[Neuron], exemplars: Mapping[Neuron, Exemplars], session: Session
) -> Float[np.ndarray, " units"]:
    """The mean over whole exemplar images; NaN in layers without maps."""
    found = dict.fromkeys(neurons, np.nan)
    for layer in (layer.name for layer in session.layers if layer.spatial):
        for block in blocks([neuron for neuron in neurons if neuron.layer == layer]):
            wanted = [(neuron, index) for neuron in block for index in _images_of(exemplars[neuron])]
            indices = sorted({index for _, index in wanted})
            place = {index: position for position, index in enumerate(indices)}
            pairs = [(place[index], neuron.unit) for neuron, index in wanted]
            maps = session.target.maps(picked(session.probe.images, indices), layer, pairs)
            shares: dict[Neuron, list[float]] = {neuron: [] for neuron in block}
            for (neuron, _), of_image in zip(wanted, maps, strict=True):
                shares[neuron].append(empty_share(of_image))
            found |= {neuron: float(np.mean(of_one)) for neuron, of_one in shares.items()}
    return np.asarray([found[neuron] for neuron in neurons])


def empty_share(of_image: Float[np.ndarray, "height width"]) -> float:
    """Which share of a map is empty: 0 for a flat one, 1 - 1/n for one of n positions alone.

    Activations are taken above the map's lowest.
    """
    above = of_image.astype(float) - of_image.min()
    squares = float((above**2).sum())
    return 1 - float(above.sum()) ** 2 / (above.size * squares) if squares > 0 else 0.0
