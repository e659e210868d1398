"""Step 2 of the method: captions of what excites a neuron (2A), and concepts from captions (2B)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from jaxtyping import Int

from dnr_bench.data.captions import Captions
from dnr_bench.data.evidence import Candidate
from dnr_bench.data.images import View
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.infra.work import Work
from dnr_bench.protocols import Captioner, Metered, Proposer, Quoting, Summarizer
from dnr_bench.session import Session
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.stages.exemplars import probe_view
from dnr_bench.stages.probe_sample import sample_places

Views = Mapping[Neuron, Sequence[View]]

#: What the summarizer's first candidate has ahead of the others, as a share of the best support.
_FIRST = 0.1


@dataclass(frozen=True)
class ConceptProposer:
    """From what neurons were shown with to at most N candidate concepts per neuron."""

    captioner: Captioner
    summarizer: Summarizer | Proposer
    contrast: CaptionContrast
    n: int
    _known: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range(1, 1000, n_candidates=self.n)

    def check(self, session: Session) -> None:
        """Raises `UsageError` where captions of the data set are asked for, and it has none."""
        quoting = isinstance(self.captioner, Quoting) and not isinstance(self.summarizer, Proposer)
        if quoting and session.probe.images and session.probe.words is None:
            raise UsageError(
                f"captioner=dataset repeats what the probing set says of its images, and {session.probe.name}"
                " says nothing: give probe.captions=FILE (a CSV file: file,caption) or probe.labels=folders"
                " (names of classes), or choose a captioner that is a model (captioner=blip_base)"
            )

    def captions(self, views: Views, session: Session) -> dict[Neuron, tuple[str, ...]]:
        """Step 2A: a caption per view; none where exemplars go straight to a proposer."""
        if isinstance(self.summarizer, Proposer):
            return dict.fromkeys(views, ())
        found = self._captioned(list(views.values()), session)
        return {neuron: tuple(of_neuron) for neuron, of_neuron in zip(views, found, strict=True)}

    def propose(
        self, views: Views, captions: Mapping[Neuron, Sequence[str]], session: Session
    ) -> dict[Neuron, list[str]]:
        """Step 2B: at most N candidate concepts per neuron, the most fitting first."""
        if isinstance(self.summarizer, Proposer):
            found = self._from_views(self.summarizer, list(views.values()), session)
        else:
            said = self._said(views, captions, session, with_others=self.summarizer.needs_others)
            found = self._from_captions(self.summarizer, said, session)
        return dict(zip(views, found, strict=True))

    def with_priors(
        self,
        pool: Mapping[Neuron, Sequence[Candidate]],
        views: Views,
        captions: Mapping[Neuron, Sequence[str]],
        session: Session,
    ) -> dict[Neuron, list[Candidate]]:
        """The candidates with how well the captions of the exemplars support them, wherever they are from.

        The one that the summarizer put first has a tenth of the best support more: in close calls its choice
        stands.
        """
        said = self._said({neuron: views[neuron] for neuron in pool}, captions, session, with_others=True)
        found = self.contrast.supports(said, [[c.text for c in candidates] for candidates in pool.values()])
        rated = {}
        for (neuron, candidates), priors in zip(pool.items(), found, strict=True):
            if candidates and candidates[0].origin in ("captions", "both"):
                priors[0] += _FIRST * max(float(priors.max()), 0.0)
            rated[neuron] = [replace(c, prior=float(p)) for c, p in zip(candidates, priors, strict=True)]
        return rated

    def _captioned(self, groups: Sequence[Sequence[View]], session: Session) -> list[list[str]]:
        settings = {"code": code_of(__name__, self.captioner), "captioner": self.captioner.fingerprint}

        def key(view: View) -> Key:
            return {**settings, "pixels": view.name, "own": view.caption}

        # the owner of a budget counts what is spent in this process
        role = "" if isinstance(self.captioner, Metered) else "captioner"
        return session.store.fill_groups("captions", groups, key, Work(role, self.captioner, _caption))

    def _said(
        self,
        views: Views,
        captions: Mapping[Neuron, Sequence[str]],
        session: Session,
        *,
        with_others: bool,
    ) -> list[Captions]:
        """The captions of each neuron with its activations, and those of other images if asked for."""
        spoken = any(captions[neuron] for neuron in views)
        places = sample_places(len(session.probe.images), self.contrast.n_images, session.seed)
        others = self._others(places, session) if with_others and spoken else []
        return [
            Captions(
                tuple(captions[neuron]),
                np.asarray([view.activation for view in views[neuron]], float),
                others,
                session.activations(neuron.layer).values[places, neuron.unit] if others else np.empty(0),
            )
            for neuron in views
        ]

    def _others(self, places: Int[np.ndarray, " drawn"], session: Session) -> list[str]:
        """The captions of these probing images, which are read once in a run."""
        name = f"{session.probe.digest} {session.seed}"
        if name not in self._known:
            views = [probe_view(session.probe, int(place)) for place in places]
            (self._known[name],) = self._captioned([views], session)
        return self._known[name]

    def _from_captions(
        self, summarizer: Summarizer, said: Sequence[Captions], session: Session
    ) -> list[list[str]]:
        settings = self._settings(summarizer, session)

        def key(of_neuron: Captions) -> Key:
            more = {"captions": of_neuron.digest} if summarizer.needs_others else {}
            return {**settings, "captions": list(of_neuron.texts), **more}

        work = Work("", summarizer, partial(_summarize, self.n, session.seed))
        (found,) = session.store.fill_groups("candidates", [said], key, work)
        return found

    def _from_views(
        self, proposer: Proposer, views: Sequence[Sequence[View]], session: Session
    ) -> list[list[str]]:
        settings = self._settings(proposer, session)
        (found,) = session.store.fill_groups(
            "candidates",
            [views],
            lambda of_neuron: {**settings, "views": [view.name for view in of_neuron]},
            Work("", proposer, partial(_propose, self.n, session.seed)),
        )
        return found

    def _settings(self, part: Summarizer | Proposer, session: Session) -> Key:
        """What candidates depend on, beside what they are made of."""
        code = code_of(__name__, part)
        return {"code": code, "summarizer": part.fingerprint, "n": self.n, "seed": session.seed}


def _caption(captioner: Captioner, views: Sequence[View]) -> Iterable[str]:
    return captioner.caption(views)


def _summarize(n: int, seed: int, summarizer: Summarizer, captions: Sequence[Captions]) -> list[list[str]]:
    return summarizer.summarize(captions, n, seed)


def _propose(n: int, seed: int, proposer: Proposer, views: Sequence[Sequence[View]]) -> list[list[str]]:
    return proposer.propose(views, n, seed)
