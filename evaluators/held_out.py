"""Labels as predictions about images that explained no neuron, drawn or real.

Drawn: the label's images against real control images (CoSy, Kopf et al. 2024). Real: the presence of the
label, as CLIP sees it, against activations (Oikarinen and Weng 2024, "Linear Explanations"; Oikarinen et al.
2025, "Evaluating Neuron Explanations").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Probe, judged_by, knows
from dnr_bench.session import Evaluator, Session
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.detection import (
    METRICS,
    average_precision,
    correlation,
    cosy_auc,
    cosy_mad,
    f1,
    iou,
    is_high,
    with_labels_added,
    with_labels_missing,
)
from dnr_bench.statistics.intervals import estimate
from evaluators.label_tables import card_of_table, label_texts, mean_known
from evaluators.text_agreement import able

_UNITS = {
    "cosy_auc": "AUROC",
    "cosy_mad": "standard deviations",
    "correlation": "correlation",
    "auprc": "AUPRC",
    "f1": "F1",
    "iou": "IoU",
}


class HeldOutScores(Evaluator):
    """cosy_auc, cosy_mad, correlation, auprc, f1 and iou of each labeled neuron, and the sanity tests.

    An image shows a concept where its CLIP cosine with the concept is at least the one that the share `shown`
    of the concept's own drawn images reaches; where CLIP does not know the labels and images have captions,
    these say what an image shows; a neuron is active where Otsu's threshold says so.
    chance: labels of other neurons. oracle: true labels of the neurons that have one. best_constant: the one
    label of this run that would do best for all neurons.
    """

    def __init__(self, images: Probe, shown: float, sanity: bool, contrast: CaptionContrast) -> None:
        if not 0 < shown <= 1:
            raise UsageError(f"shown={shown} must lie in 0..1, above 0")
        self.images, self.shown, self.sanity = images, shown, sanity
        self.contrast = contrast

    def check_images(self, session: Session) -> None:
        """Its images must not be the run's own."""
        session.held_out.check(self.images.load(session.seed))

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """All of its metrics."""
        return self._found(description, session)[0]

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """A scorecard per metric over all neurons; none where no neuron has a label."""
        cards, views, texts = self._found(description, session)
        if not self.sanity or not views:
            return [*cards]
        return [*cards, Table("held_out_sanity", _sanity_rows(views, texts, session.seed))]

    def _found(
        self, description: Description, session: Session
    ) -> tuple[list[Scorecard], list[_LayerView], list[str]]:
        """The cards, the views of each layer, and the texts of these."""
        labeled, texts, n_labels = label_texts(description)
        labels = texts[:n_labels]
        images = self.images.load(session.seed)
        by_clip = knows(session.encoder, labels)
        if not labeled or (images.words is None and not able(session.encoder, labels, "held_out", session)):
            return [], [], []
        views = self._views(labeled, texts, images, by_clip, session)
        tables = {
            name: np.concatenate([view.tables()[name] for view in views], axis=0)
            for name in views[0].tables()
        }
        in_order = [e for view in views for e in view.explanations]
        drawn = session.drawn_by
        clip = judged_by(session.encoder) if by_clip else "captions of the images"
        judges = {"cosy_auc": drawn, "cosy_mad": drawn, "correlation": clip}
        cards = [
            card_of_table(
                "held_out",
                name,
                table,
                in_order,
                texts,
                n_labels,
                description,
                unit=_UNITS[name],
                headline=name in ("correlation", "f1"),
                judge=judges.get(name, f"{clip} and {drawn}"),
            )
            for name, table in tables.items()
        ]
        return cards, views, texts

    def _views(
        self,
        labeled: Sequence[Explanation],
        texts: Sequence[str],
        images: ProbeSet,
        by_clip: bool,
        session: Session,
    ) -> list[_LayerView]:
        outputs = session.held_out.activations(images)
        layers = list(dict.fromkeys(e.neuron.layer for e in labeled))
        members = {layer: tuple(e for e in labeled if e.neuron.layer == layer) for layer in layers}
        values = {
            layer: outputs[layer].values[:, [e.neuron.unit for e in of_layer]].astype(float)
            for layer, of_layer in members.items()
        }
        shown, cosy = [], {layer: _Cosy() for layer in layers}
        for rendering in session.draw(texts, fresh=True):
            own = rendering.embeddings @ rendering.text_embedding
            shown.append(np.quantile(own, 1 - self.shown))
            for layer, of_layer in members.items():
                units = [e.neuron.unit for e in of_layer]
                cosy[layer].add(rendering.activations[layer][:, units], values[layer])
        if by_clip:
            cosines = np.concatenate(list(session.held_out.cosines(images, texts)))
            present = cosines >= np.asarray(shown)
        else:
            cosines, present = self._said(images, texts, session)
        return [_LayerView(members[layer], values[layer], cosines, present, cosy[layer]) for layer in layers]

    def _said(
        self, images: ProbeSet, texts: Sequence[str], session: Session
    ) -> tuple[Float[np.ndarray, "images texts"], Bool[np.ndarray, "images texts"]]:
        """How far the caption of each image says each text, and whether it says it well enough."""
        assert images.words is not None, "asked for captions only where there are some"
        said = self.contrast.said(texts, images.words).T
        return said, said >= session.drawing.min_fit


@dataclass(frozen=True)
class _Cosy:
    """What the drawn images of each text say of all units of a layer."""

    auc: list[Float[np.ndarray, " units"]] = field(default_factory=list)
    mad: list[Float[np.ndarray, " units"]] = field(default_factory=list)

    def add(
        self, drawn: Float[np.ndarray, "drawn units"], control: Float[np.ndarray, "images units"]
    ) -> None:
        """Look at the images of one more text."""
        self.auc.append(cosy_auc(drawn, control))
        self.mad.append(cosy_mad(drawn, control))


@dataclass(frozen=True)
class _LayerView:
    """The labeled neurons of one layer on real images and on the drawn ones of every text."""

    explanations: Sequence[Explanation]
    values: Float[np.ndarray, "images units"]
    cosines: Float[np.ndarray, "images texts"]
    present: Bool[np.ndarray, "images texts"]
    cosy: _Cosy

    @property
    def active(self) -> Bool[np.ndarray, "images units"]:
        return is_high(self.values)

    def tables(self) -> dict[str, Float[np.ndarray, "units texts"]]:
        """Every metric of every unit with every text."""
        active = self.active
        return {
            "cosy_auc": np.stack(self.cosy.auc, axis=1),
            "cosy_mad": np.stack(self.cosy.mad, axis=1),
            "correlation": correlation(self.values, self.cosines),
            "auprc": average_precision(self.values, self.present),
            "f1": f1(active, self.present),
            "iou": iou(active, self.present),
        }


def _sanity_rows(
    views: Sequence[_LayerView], texts: Sequence[str], seed: int
) -> list[Mapping[str, float | str]]:
    """The change of each metric when labels are missing or added, on these neurons and on perfect ones."""
    changes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    clusters: list[str] = []
    for view in views:
        active = view.active
        for row, e in enumerate(view.explanations):
            present = view.present[:, texts.index(e.labels[0])]
            if not 2 <= present.sum() <= len(present) / 2:
                continue
            clusters.append(e.cluster)
            rng = np.random.default_rng([seed, crc32(str(e.neuron).encode())])
            spoiled = np.stack(
                [present, with_labels_missing(present, rng), with_labels_added(present, rng)], axis=1
            )
            for name, metric in METRICS.items():
                mine = metric(view.values[:, [row]], active[:, [row]], spoiled)[0]
                perfect = metric(present[:, None].astype(float), present[:, None], spoiled)[0]
                for test, place in (("missing labels", 1), ("extra labels", 2)):
                    pair = mine[place] - mine[0], perfect[place] - perfect[0]
                    changes.setdefault((name, test), []).append(pair)
    rows: list[Mapping[str, float | str]] = []
    for (name, test), pairs in changes.items():
        mine, perfect = np.asarray(pairs).T
        found = estimate(mine, clusters, seed, signed=True)
        rows.append(
            {
                "metric": name,
                "test": test,
                "change": found.mean,
                "low": found.low,
                "high": found.high,
                "neurons that fall": mean_known(np.where(np.isnan(mine), np.nan, mine < 0)),
                "change of a perfect neuron": mean_known(perfect),
                "neurons": found.n,
            }
        )
    return rows
