"""Describe-and-Dissect from exemplars to labels (DnD section 3), readable beside the paper.

With refinement it is Describe-and-Refine (DnR 3.2); on a blurred or corrupted probing set it is CLEAR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Candidate
from dnr_bench.data.explanation import Explanation, RefinementRecord, ScoredCandidate
from dnr_bench.data.images import View
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.abstention import undriven
from dnr_bench.methods.describe_and_dissect.candidates import (
    Pool,
    joined,
    priors_of,
    ranked,
    texts_of,
)
from dnr_bench.methods.describe_and_dissect.concepts import ConceptProposer
from dnr_bench.methods.describe_and_dissect.refinement import Refinement
from dnr_bench.methods.labeling import DEAD, LabelSettings, labeled
from dnr_bench.protocols import Captioner, Proposals, Proposer, Quoting, Scorer, Summarizer
from dnr_bench.session import Session
from dnr_bench.stages.caption_contrast import CaptionContrast

NO_CANDIDATE = "the summarizer proposed no concept"
NO_SCORE = "no candidate could be scored"
NOT_DRIVEN = "its best concept drives it no more than other neurons' concepts do"


class DescribeAndDissect:
    """Captions of exemplars become concepts, and the concept wins whose images activate the neuron most.

    Args:
        captioner: describes exemplars; not asked where `summarizer` is a proposer.
        summarizer: captions to concepts (step 2B), or a proposer from exemplars straight to concepts.
        scorer: ranks the concepts of a neuron (step 3).
        refinement: how often to go on with the images that were generated (DnR 3.2.2).
        labels: how many labels to give.
        abstain_margin: a neuron gets no label where its best concept drives it less than this above other
            neurons' concepts, in units of its exemplars' activation; None: every neuron gets one, as in the
            papers.
        proposals: further candidates, of another method.
        user_concepts: further candidates, of the user's.
        contrast: tells what sets a neuron's captions apart, for scorers that look at it.
        n_candidates: N, concepts per neuron and iteration.

    Raises:
        UsageError: a setting is out of range, or the captioner cannot describe generated images.
    """

    def __init__(
        self,
        captioner: Captioner,
        summarizer: Summarizer | Proposer,
        scorer: Scorer,
        refinement: Refinement,
        labels: LabelSettings,
        abstain_margin: float | None,
        proposals: Proposals,
        user_concepts: Proposals,
        contrast: CaptionContrast,
        n_candidates: int,
    ) -> None:
        is_asked = not isinstance(summarizer, Proposer)
        if refinement.captions_drawings and is_asked and isinstance(captioner, Quoting):
            raise UsageError(
                f"refine=iterative captions generated images, of which {captioner.quotes} says nothing: it"
                " needs a captioner that is a model (captioner=blip, clip_concepts)"
            )
        self.concepts = ConceptProposer(captioner, summarizer, contrast, n_candidates)
        self.scorer, self.refinement = scorer, refinement
        self.labels, self.abstain_margin = labels, abstain_margin
        self.proposals, self.user_concepts = proposals, user_concepts

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Raises `UsageError` where candidates from elsewhere are of units that do not exist."""
        self.proposals.concepts(neurons, layers)
        self.user_concepts.concepts(neurons, layers)

    def check_images(self, session: Session) -> None:
        """Raises `UsageError` where captions of the data set are asked for, and it has none."""
        self.concepts.check(session)

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; dead neurons are unscored with that reason."""
        views = _views(neurons, session)  # step 1: what excites each neuron most
        captions = self.concepts.captions(views, session)  # step 2A

        def rated(pool: Pool) -> dict[Neuron, list[Candidate]]:
            asked = "prior" in self.scorer.needs
            if not asked:
                return {neuron: list(candidates) for neuron, candidates in pool.items()}
            return self.concepts.with_priors(pool, views, captions, session)

        pool = rated(self._pool(views, captions, session))  # step 2B
        scores = session.scores(texts_of(pool), self.scorer, priors=priors_of(pool))  # step 3
        records = self.refinement.refine(
            pool, scores, self.concepts, self.scorer, session, rated
        )  # DnR 3.2.2
        in_order = {n: ranked(pool[n], scores[n], partial(session.shown, n)) for n in pool}
        found = self._labeled(in_order, captions, records, session)
        return [found.get(neuron) or Explanation(neuron, (), unscored=DEAD) for neuron in neurons]

    def candidates(
        self, neurons: Sequence[Neuron], session: Session, *, with_priors: bool = False
    ) -> dict[Neuron, list[Candidate]]:
        """The unrefined candidates of each neuron as they were proposed; dead neurons are left out."""
        views = _views(neurons, session)
        captions = self.concepts.captions(views, session)
        pool = self._pool(views, captions, session)
        return self.concepts.with_priors(pool, views, captions, session) if with_priors else pool

    def scores(self, pool: Pool, session: Session) -> dict[Neuron, Float[np.ndarray, " candidates"]]:
        """The scores of these candidates of each living neuron, all of a neuron scored together."""
        views = _views(list(pool), session)
        known = {neuron: list(pool[neuron]) for neuron in views}
        if "prior" in self.scorer.needs:
            known = self.concepts.with_priors(known, views, self.concepts.captions(views, session), session)
        return session.scores(texts_of(known), self.scorer, priors=priors_of(known))

    def _pool(
        self,
        views: Mapping[Neuron, Sequence[View]],
        captions: Mapping[Neuron, Sequence[str]],
        session: Session,
    ) -> dict[Neuron, list[Candidate]]:
        """The candidates of each neuron: what captions say, another method's labels, the user's concepts."""
        proposed = self.concepts.propose(views, captions, session)
        layers = session.target.layers()
        theirs = self.proposals.concepts(list(views), layers)
        mine = self.user_concepts.concepts(list(views), layers)
        return {
            neuron: joined(
                [Candidate(text, "captions") for text in texts],
                [
                    *(Candidate(text, "method") for text in theirs.get(neuron, ())),
                    *(Candidate(text, "user") for text in mine.get(neuron, ())),
                ],
            )
            for neuron, texts in proposed.items()
        }

    def _labeled(
        self,
        in_order: Mapping[Neuron, Sequence[ScoredCandidate]],
        captions: Mapping[Neuron, tuple[str, ...]],
        records: Mapping[Neuron, RefinementRecord],
        session: Session,
    ) -> dict[Neuron, Explanation]:
        """Each living neuron with its labels, or the reason why it gets none."""
        answers = {n: c[0].text for n, c in in_order.items() if c and c[0].reason is None}
        weak = undriven(answers, self.abstain_margin, session) if self.abstain_margin is not None else set()
        exemplars = session.exemplars(list(in_order))
        reasons = {
            neuron: NOT_DRIVEN if neuron in weak else NO_SCORE if candidates else NO_CANDIDATE
            for neuron, candidates in in_order.items()
            if neuron in weak or neuron not in answers
        }
        return {
            neuron: labeled(
                Explanation(
                    neuron,
                    tuple(candidates),
                    exemplars=exemplars[neuron],
                    captions=captions[neuron],
                    refinement=records.get(neuron),
                    unscored=reasons.get(neuron),
                ),
                self.labels,
                session,
            )
            for neuron, candidates in in_order.items()
        }


def _views(neurons: Sequence[Neuron], session: Session) -> dict[Neuron, list[View]]:
    return {neuron: session.views(found) for neuron, found in session.exemplars(neurons).items()}
