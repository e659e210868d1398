"""Do labels find the units that tell apart classes the network was never taught? (DnD A.6, table 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.metrics import roc_auc_score

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Probe, TextEncoder, judged_by
from dnr_bench.session import Evaluator, Session


class OodAuroc(Evaluator):
    """For each class of a data set the AUROC of the units whose label is nearest to the class's name.

    Each such unit's pooled activation is taken as a one-class classifier; units that share the nearest
    label are averaged. chance: any labeled unit. oracle: the labeled unit that tells the class best.
    """

    def __init__(self, datasets: Mapping[str, Probe], encoder: TextEncoder) -> None:
        if not datasets:
            raise UsageError("datasets={} must name at least one data set with classes")
        self.datasets, self.encoder = datasets, encoder

    def check_images(self, session: Session) -> None:
        """Its images must have classes, and not be the run's own."""
        for name, probe in self.datasets.items():
            images = probe.load(session.seed)
            if images.classes is None:
                raise UsageError(f"ood_auroc.datasets.{name}: {images.name} has no classes")
            session.held_out.check(images)

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """All of its metrics."""
        return self.evaluate(description, session)

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """A scorecard per data set, with a value for each class; none where no unit has a label."""
        labeled = [e for e in description.explanations if e.labels]
        if not labeled:
            return []
        return [
            self._card(name, probe.load(session.seed), labeled, session)
            for name, probe in self.datasets.items()
        ]

    def _card(
        self, name: str, images: ProbeSet, labeled: Sequence[Explanation], session: Session
    ) -> Scorecard:
        if images.classes is None:
            raise UsageError(f"ood_auroc.datasets.{name}: {images.name} has no classes")
        of_image = np.asarray(images.classes)
        classes = sorted(set(images.classes))
        outputs = session.held_out.activations(images)
        values = np.stack([outputs[e.neuron.layer].values[:, e.neuron.unit] for e in labeled], axis=1)
        table = np.stack([aurocs(values, of_image == of_class) for of_class in classes])
        labels = list(dict.fromkeys(e.labels[0] for e in labeled))
        cosines = session.embed_texts(classes, self.encoder) @ session.embed_texts(labels, self.encoder).T
        nearest = [labels[index] for index in cosines.argmax(axis=1)]
        shares = [[e.labels[0] == label for e in labeled] for label in nearest]
        return Scorecard(
            group="ood_auroc",
            metric=name,
            unit="AUROC",
            headline=True,
            higher_is_better=True,
            item_kind="class",
            items=classes,
            values=np.asarray([table[row, units].mean() for row, units in enumerate(shares)]),
            clusters=nearest,
            chance=float(table.mean()),
            oracle=float(table.max(axis=1).mean()),
            judge=judged_by(self.encoder),
        )


def aurocs(values: Float[np.ndarray, "images units"], is_class: np.ndarray) -> Float[np.ndarray, " units"]:
    """The area under the ROC curve of each unit for a class; 0.5 where all or no images are of it."""
    if is_class.all() or not is_class.any():
        return np.full(values.shape[1], 0.5)
    return np.asarray([roc_auc_score(is_class, unit) for unit in values.T])
