"""The result of a method for one neuron: scored candidates, labels, refinement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dnr_bench.data.chat import Usage
from dnr_bench.data.evidence import Origin
from dnr_bench.data.exemplars import Exemplars
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.stages import StageCount

#: Why a neuron has no label where the method gives none to any.
NO_LABELS_WANTED = "method=none gives no labels"
NO_CAPTION = "its highest exemplar has no caption"


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate and its score; NaN and a reason where it has none. `prior`: as the candidate's.

    shown: how many of its images show it; None where the scorer does not ask.
    """

    text: str
    origin: Origin
    score: float
    reason: str | None = None
    iteration: int = 0
    prior: float = math.nan
    shown: int | None = None


@dataclass(frozen=True)
class RefinementRecord:
    """How the refinement of a neuron went.

    progress: one value per iteration. stopped: why there was no further iteration. answers: the best concept
    before the first iteration (the unrefined answer) and after each.
    """

    progress: tuple[float, ...] = ()
    stopped: str | None = None
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """One neuron explained: candidates best first, or the reason why there is no label.

    labels: the words of the best candidate, and of further ones where several labels were asked for.
    exemplars: None for methods that look at no image. captions: one per exemplar, empty for methods without
    a captioner. refinement: None where nothing was refined. weights: one per label, where the labels together
    say what drives the neuron: by how many of its standard deviations the presence of each raises it. group:
    other neurons that were explained together with it.
    """

    neuron: Neuron
    candidates: tuple[ScoredCandidate, ...]
    labels: tuple[str, ...] = ()
    unscored: str | None = None
    exemplars: Exemplars | None = None
    captions: tuple[str, ...] = ()
    refinement: RefinementRecord | None = None
    weights: tuple[float, ...] = ()
    group: tuple[Neuron, ...] = ()

    @property
    def cluster(self) -> str:
        """Neurons with the same labels share generated images: they are one cluster."""
        return " | ".join(self.labels) or str(self.neuron)

    @property
    def copied(self) -> Explanation:
        """The caption of the highest exemplar as the label, as if somebody had just copied it."""
        caption = next((text.strip() for text in self.captions[:1] if text.strip()), None)
        if caption is None:
            return replace(self, candidates=(), labels=(), weights=(), unscored=NO_CAPTION)
        found = (ScoredCandidate(caption, "method", 0.0),)
        return replace(self, candidates=found, labels=(caption,), weights=(), unscored=None, refinement=None)

    @property
    def best(self) -> ScoredCandidate | None:
        """The candidate that was chosen."""
        return None if self.unscored else self.candidates[0]


@dataclass(frozen=True)
class Description:
    """The described neurons of a run, for evaluators to judge.

    explanations: one per neuron, in order. truth: what is known of neurons, without those that are known to
    detect nothing. stages: what describing took, by stage. usage: what each part asked of a chat model.
    """

    explanations: Sequence[Explanation]
    truth: Mapping[Neuron, str] = field(default_factory=dict)
    stages: Mapping[str, StageCount] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)
