"""MILAN (Hernandez et al. 2022): the description that a neuron's regions make likelier than it is anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnr_bench.captioners.likelihoods import reranked
from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.images import View
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import LabelSettings, label_each
from dnr_bench.protocols import Describer, TextPrior
from dnr_bench.session import Session


class Milan:
    """The label maximizes log p(d | regions) - prior_weight log p(d): pointwise mutual information, weighted.

    Args:
        describer: gives p(d | regions), and likely descriptions.
        prior: gives p(d).
        prior_weight: lambda.
        beam: descriptions that are ranked anew.
        top: descriptions that are kept of each neuron.
        labels: how many labels a neuron gets.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        describer: Describer,
        prior: TextPrior,
        prior_weight: float,
        beam: int,
        top: int,
        labels: LabelSettings,
    ) -> None:
        check_range(0, 100, prior_weight=prior_weight)
        check_range(2, 1000, beam=beam)
        check_range(1, 1000, top=top)
        self.describer, self.prior, self.prior_weight = describer, prior, prior_weight
        self.beam, self.top, self.labels = beam, top, labels

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are weighted pointwise mutual information."""
        exemplars = session.exemplars(neurons)
        regions = [session.views(found) for found in exemplars.values()]
        said = dict(zip(exemplars, self._described(regions, session), strict=True))

        def descriptions_of(neuron: Neuron) -> tuple[list[ScoredCandidate], str | None]:
            found = [ScoredCandidate(text, "method", score) for text, score in said[neuron]]
            return found, None if found else "no description is likely"

        return label_each(neurons, descriptions_of, self.labels, session)

    def _described(
        self, regions: Sequence[Sequence[View]], session: Session
    ) -> list[list[tuple[str, float]]]:
        """The best descriptions of each neuron's regions with their scores."""
        code = code_of(__name__, self.describer, self.prior)
        keys: list[Key] = [
            {
                "code": code,
                "describer": self.describer.fingerprint,
                "prior": self.prior.fingerprint,
                "regions": [view.name for view in of_neuron],
                "settings": [self.prior_weight, self.beam, self.top],
            }
            for of_neuron in regions
        ]

        def compute(missing: list[int]) -> Iterator[list[list[object]]]:
            for place in missing:
                likely = self.describer.likeliest(regions[place], self.beam)
                priors = self.prior.log_priors([text for text, _ in likely])
                best = reranked(likely, priors, self.prior_weight)[: self.top]
                yield [[text, score] for text, score in best]

        stored = session.store.fill("milan", keys, compute)
        return [[(text, float(score)) for text, score in of_neuron] for of_neuron in stored]
