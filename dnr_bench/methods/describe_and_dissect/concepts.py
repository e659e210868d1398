"""Step 2 of the method: captions of what excites a neuron (2A), and concepts from captions (2B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnr_bench.data.images import View
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.digests import Key, pixels_digest
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.protocols import Captioner, Proposer, Summarizer
from dnr_bench.session import Session


@dataclass(frozen=True)
class ConceptProposer:
    """From what neurons were shown with to at most N candidate concepts per neuron."""

    captioner: Captioner
    summarizer: Summarizer | Proposer
    n: int

    def __post_init__(self) -> None:
        check_range(1, 1000, n_candidates=self.n)

    def captions(
        self, views: Mapping[Neuron, Sequence[View]], session: Session
    ) -> dict[Neuron, tuple[str, ...]]:
        """Step 2A: a caption per view; none where exemplars go straight to a proposer."""
        if isinstance(self.summarizer, Proposer):
            return dict.fromkeys(views, ())

        settings = {"code": code_of(__name__, self.captioner), "captioner": self.captioner.fingerprint}

        def key(view: View) -> Key:
            return {**settings, "pixels": pixels_digest(view.pixels), "own": view.caption}

        found = session.store.fill_groups("captions", list(views.values()), key, self.captioner.caption)
        return {neuron: tuple(of_neuron) for neuron, of_neuron in zip(views, found, strict=True)}

    def propose(
        self,
        views: Mapping[Neuron, Sequence[View]],
        captions: Mapping[Neuron, Sequence[str]],
        session: Session,
    ) -> dict[Neuron, list[str]]:
        """Step 2B: at most N candidate concepts per neuron, the most fitting first."""
        if isinstance(self.summarizer, Proposer):
            found = self._from_views(self.summarizer, list(views.values()), session)
        else:
            found = self._from_captions(self.summarizer, [captions[neuron] for neuron in views], session)
        return dict(zip(views, found, strict=True))

    def _from_captions(
        self, summarizer: Summarizer, captions: Sequence[Sequence[str]], session: Session
    ) -> list[list[str]]:
        settings = self._settings(summarizer, session)
        (found,) = session.store.fill_groups(
            "candidates",
            [captions],
            lambda of_neuron: {**settings, "captions": list(of_neuron)},
            lambda wanted: summarizer.summarize(wanted, self.n, session.seed),
        )
        return found

    def _from_views(
        self, proposer: Proposer, views: Sequence[Sequence[View]], session: Session
    ) -> list[list[str]]:
        settings = self._settings(proposer, session)
        (found,) = session.store.fill_groups(
            "candidates",
            [views],
            lambda of_neuron: {**settings, "views": [pixels_digest(view.pixels) for view in of_neuron]},
            lambda wanted: proposer.propose(wanted, self.n, session.seed),
        )
        return found

    def _settings(self, part: Summarizer | Proposer, session: Session) -> Key:
        """What candidates depend on, beside what they are made of."""
        code = code_of(__name__, part)
        return {"code": code, "summarizer": part.fingerprint, "n": self.n, "seed": session.seed}
