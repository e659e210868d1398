"""The session that methods and evaluators share: one target, one probing set, one CLIP, one store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence, Need, Rendering
from dnr_bench.data.exemplars import Activations, Exemplars
from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.images import ProbeSet, View
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.memory import give_back
from dnr_bench.infra.notices import Notices
from dnr_bench.infra.store import Store
from dnr_bench.protocols import (
    Generator,
    ImageTextEncoder,
    Retriever,
    Scorer,
    Target,
    TextEncoder,
    TextMatcher,
)
from dnr_bench.stages.activations import probe_activations
from dnr_bench.stages.concept_images import ConceptImages, DrawingSettings, Drawn
from dnr_bench.stages.correlations import probe_correlations
from dnr_bench.stages.embeddings import embed_texts, embed_views, match_texts, probe_embeddings
from dnr_bench.stages.evidence import Shown, gather_evidence
from dnr_bench.stages.exemplars import ExemplarSettings, find_exemplars, never_fires, views_of
from dnr_bench.stages.held_out import HeldOutImages
from dnr_bench.stages.probe_sample import ProbeSample
from dnr_bench.stages.resampling import activations_at, part_of

#: For each neuron how well the captions of its exemplars support each of its concepts.
Priors = Mapping[Neuron, Sequence[float]]

#: Neurons whose exemplars and images of concepts are looked at together.
_BLOCK = 32

#: Added to the run's seed for images that no label was chosen by.
_FRESH = 2**32


class Session:
    """Memoized access to what the stages give; nothing is computed before somebody asks for it.

    Args:
        target: the network whose neurons are described.
        layers: the layers of the run; every pass through the target reads all of them.
        probe: the images that explain neurons, as blurred or corrupted as they are to be seen.
        encoder: the run's CLIP.
        generator: draws images of concepts; None where nothing is to be drawn.
        exemplars: how exemplars are chosen.
        drawing: how concepts are drawn.
        seed: of every sampler of the run.
        store: where results are kept.
        whole: the session whose probing set `probe` is a part of, with the places of its images there;
            None where nobody knows more of them.

    Raises:
        UsageError: a generator that retrieves images shares some with the probing set, or has too few.
    """

    def __init__(
        self,
        *,
        target: Target,
        layers: Sequence[Layer],
        probe: ProbeSet,
        encoder: ImageTextEncoder,
        generator: Generator | None,
        exemplars: ExemplarSettings,
        drawing: DrawingSettings,
        seed: int,
        store: Store,
        whole: tuple[Session, Sequence[int]] | None = None,
    ) -> None:
        self._whole = whole
        self.target, self.layers, self.probe, self.encoder = target, tuple(layers), probe, encoder
        self.exemplar_settings, self.drawing = exemplars, drawing
        self.seed, self.store = seed, store
        self._exemplars: dict[Neuron, Exemplars | None] = {}
        self.notices = Notices()
        self._sample = ProbeSample(store, encoder, probe, seed)
        self.generator = generator
        explaining = frozenset(probe.original_ids)
        if isinstance(generator, Retriever):
            _check_retrieved(generator, probe, drawing.images_per_concept)
            explaining |= generator.ids
        self.held_out = HeldOutImages(store, target, encoder, self.layers, explaining)

    # the probing set

    @cached_property
    def _activations(self) -> dict[str, Activations]:
        if not self.probe.images:
            raise UsageError(
                "something asks for activations, but the probing set has no images (probe=none): choose a"
                " probe, or evaluators that look at labels only"
            )
        if self._whole:
            whole, places = self._whole
            return {name: activations_at(found, places) for name, found in whole._activations.items()}
        return probe_activations(self.store, self.target, self.probe, self.layers)

    def activations(self, layer: str) -> Activations:
        """The activations [images, units] of one of the run's layers on the probing set."""
        return self._activations[layer]

    def probe_vectors(self) -> Float[np.ndarray, "images dim"]:
        """CLIP unit vectors of the probing images, mapped from their file."""
        if self._whole:
            whole, places = self._whole
            return np.asarray(whole.probe_vectors()[list(places)])
        dim = self.embed_texts(["image"]).shape[1]
        return probe_embeddings(self.store, self.encoder, self.probe, dim=dim)

    def exemplars(self, neurons: Sequence[Neuron]) -> dict[Neuron, Exemplars]:
        """The exemplars of each neuron; neurons with the same activation on every image are left out."""
        unknown = [neuron for neuron in dict.fromkeys(neurons) if neuron not in self._exemplars]
        if unknown:
            activations = self._activations
            alive = [n for n in unknown if not never_fires(activations[n.layer], n.unit)]
            found = find_exemplars(
                self.store, self.target, self.probe, activations, alive, self.exemplar_settings
            )
            self._exemplars |= dict.fromkeys(unknown) | dict(zip(alive, found, strict=True))
        known = {neuron: self._exemplars[neuron] for neuron in neurons}
        return {neuron: exemplars for neuron, exemplars in known.items() if exemplars is not None}

    def views(self, exemplars: Exemplars) -> list[View]:
        """The view of each exemplar: its pixels, and its image's own caption if there is one."""
        return views_of(self.probe, exemplars)

    def exemplar_vectors(self, neurons: Sequence[Neuron]) -> dict[Neuron, Float[np.ndarray, " dim"]]:
        """The mean CLIP vector of each neuron's exemplars; dead neurons have none.

        Its product with a text's vector is CLIP(n) of DnR.
        """
        return {n: v.mean(axis=0) for block in blocks(neurons) for n, v in _vectors(block, self).items()}

    # texts

    def embed_texts(
        self, texts: Sequence[str], encoder: TextEncoder | None = None
    ) -> Float[np.ndarray, "texts dim"]:
        """Unit vectors of texts; of the run's CLIP unless another encoder is given."""
        return embed_texts(self.store, encoder or self.encoder, texts)

    def match_texts(
        self, matcher: TextMatcher, texts: Sequence[str], references: Sequence[str]
    ) -> Float[np.ndarray, " pairs"]:
        """F1 of each text against the reference at its place."""
        return match_texts(self.store, matcher, texts, references)

    # concepts

    @cached_property
    def _images(self) -> dict[bool, ConceptImages]:
        """Images that choose labels, and fresh ones that no label is chosen by."""
        if self.generator is None:
            raise UsageError("something asks for images of concepts, but there is no generator: choose one")
        layers = [layer.name for layer in self.layers]
        starts = ((False, self.seed, 0), (True, self.seed + _FRESH, self.drawing.images_per_concept))
        return {
            fresh: ConceptImages(
                self.store, self.generator, self.target, self.encoder, layers, self.drawing, seed, first
            )
            for fresh, seed, first in starts
        }

    @property
    def drawn_by(self) -> str:
        """The generator's name with its fingerprint."""
        generator = self._images[True].generator
        return f"{type(generator).__name__} ({generator.fingerprint[:8]})"

    def draw(
        self, concepts: Sequence[str], *, fresh: bool = False, seeds_of: Sequence[str] | None = None
    ) -> Iterator[Rendering]:
        """Of each distinct concept, in order, what images of it evoke; few are in memory at a time.

        Fresh images are others than those that choose labels. seeds_of: for each concept the one whose seeds
        its images are drawn with, so that they differ in what the words change; by default itself.
        """
        return self._images[fresh].render(concepts, seeds_of)

    def drawn(self, concept: str, *, fresh: bool = False) -> Drawn:
        """The images of one concept: their names, and their pixels when these are asked for."""
        return self._images[fresh].drawn(concept)

    def probe_correlations(
        self, concepts: Mapping[Neuron, Sequence[str]]
    ) -> dict[Neuron, Float[np.ndarray, " concepts"]]:
        """Over the probing set Pearson's r of each neuron's activation with each concept's CLIP cosine."""
        return probe_correlations(self.store, self.encoder, self.probe_vectors(), self._activations, concepts)

    def evidence(
        self,
        concepts: Mapping[Neuron, Sequence[str]],
        *,
        needs: frozenset[Need],
        priors: Priors | None = None,
        fresh: bool = False,
    ) -> dict[Neuron, Evidence]:
        """The evidence for scorers, for each living neuron that has a concept.

        Args:
            concepts: the candidates of each neuron.
            needs: what scorers look at of what takes further work.
            priors: how well captions support each concept, where that is known.
            fresh: on images that no label was chosen by.
        """
        return _gathered(self, concepts, needs, priors, fresh)

    @cached_property
    def shows(self) -> Shown:
        """Which images of a concept show it."""
        return Shown(self._sample, self._activations, self.drawing.min_fit)

    def shown(self, neuron: Neuron, concept: str) -> int | None:
        """How many images of a concept that was scored for a neuron show it; None if no scorer asked."""
        return self._sample.shown.get((neuron, concept))

    def scores(
        self,
        concepts: Mapping[Neuron, Sequence[str]],
        scorer: Scorer,
        *,
        priors: Priors | None = None,
        fresh: bool = False,
    ) -> dict[Neuron, Float[np.ndarray, " concepts"]]:
        """One score per concept of each living neuron, all concepts of a neuron scored together."""
        evidence = self.evidence(concepts, needs=scorer.needs, priors=priors, fresh=fresh)
        with self.store.timed("scoring"):
            return {
                neuron: scorer.score(evidence[neuron]) if neuron in evidence else np.empty(0)
                for neuron in self.exemplars(list(concepts))
            }


@runtime_checkable
class Method(Protocol):
    """A way to come to labels. It owns the parts that it needs, and a session has what all methods share."""

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Raises `UsageError`, before any work, where it has nothing to say of these neurons."""

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order."""


@runtime_checkable
class ChecksImages(Protocol):
    """A method that asks something of the probing set."""

    def check_images(self, session: Session) -> None:
        """Raises `UsageError`, before any work, for images that lack what the method looks at."""


@runtime_checkable
class Evaluator(Protocol):
    """Judges a run's labels; derive from it to take over what need not be said."""

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Raises `UsageError`, before any work, for what cannot be evaluated on these neurons."""

    def check_images(self, session: Session) -> None:
        """Raises `UsageError`, before any work, for images that cannot be evaluated on."""
        return

    def truth(self, neurons: Sequence[Neuron], target: Target) -> Mapping[Neuron, str | None]:
        """The known truth of neurons, None for those that detect nothing; empty where nothing is known."""
        return {}

    def judged(self, description: Description, session: Session) -> Sequence[Scorecard]:
        """The metrics that judge labels alone, for labels that nobody chose; none unless it says so.

        A run asks it about the caption of each neuron's highest exemplar: the control `copy`.
        """
        return ()

    @abstractmethod
    def evaluate(self, description: Description, session: Session) -> Sequence[Scorecard | Table]:
        """The evaluator's metrics and tables; none where none of the run's neurons can be evaluated."""


@runtime_checkable
class Repeating(Protocol):
    """An evaluator that runs the method again, which may ask paid services: shards leave it out."""

    method: Method


def blocks(neurons: Sequence[Neuron]) -> Iterator[Sequence[Neuron]]:
    """Neurons in blocks: memory holds what belongs to a few of them, and these share batches."""
    for start in range(0, len(neurons), _BLOCK):
        yield neurons[start : start + _BLOCK]
        give_back()


def variant(session: Session, *, probe: ProbeSet | None = None, seed: int | None = None) -> Session:
    """A session with the same parts on other probing images, or with another seed."""
    return _with(session, probe or session.probe, session.seed if seed is None else seed, None)


def resampled(session: Session, places: Sequence[int]) -> Session:
    """A session on the probing images at these places; what is known of the whole is taken from it."""
    return _with(session, part_of(session.probe, places), session.seed, (session, places))


def _with(
    session: Session, probe: ProbeSet, seed: int, whole: tuple[Session, Sequence[int]] | None
) -> Session:
    return Session(
        target=session.target,
        layers=session.layers,
        probe=probe,
        encoder=session.encoder,
        generator=session.generator,
        exemplars=session.exemplar_settings,
        drawing=session.drawing,
        seed=seed,
        store=session.store,
        whole=whole,
    )


def _gathered(
    session: Session,
    concepts: Mapping[Neuron, Sequence[str]],
    needs: frozenset[Need],
    priors: Priors | None,
    fresh: bool,
) -> dict[Neuron, Evidence]:
    """The evidence of each living neuron; neurons are looked at in blocks."""
    exemplars = session.exemplars(list(concepts))
    known = {neuron: concepts[neuron] for neuron in exemplars}
    correlations = session.probe_correlations(known) if "probe_correlation" in needs else {}
    found: dict[Neuron, Evidence] = {}
    for block in blocks([neuron for neuron, texts in known.items() if texts]):
        drawn = session.draw([text for neuron in block for text in known[neuron]], fresh=fresh)
        by_text = {rendering.concept: rendering for rendering in drawn}
        vectors = _vectors(block, session)
        for neuron in block:
            texts = known[neuron]
            found[neuron] = gather_evidence(
                exemplars[neuron],
                vectors[neuron],
                [by_text[text] for text in texts],
                probe_correlation=correlations.get(neuron),
                prior=_prior(neuron, len(texts), priors) if "prior" in needs else None,
                shown=session.shows if "shows" in needs else None,
            )
    return found


def _vectors(neurons: Sequence[Neuron], session: Session) -> dict[Neuron, Float[np.ndarray, "exemplars dim"]]:
    """The CLIP vectors of the exemplars of a few neurons."""
    exemplars = session.exemplars(neurons)
    views = [session.views(of_neuron) for of_neuron in exemplars.values()]
    return dict(zip(exemplars, embed_views(session.store, session.encoder, views), strict=True))


def _prior(neuron: Neuron, n: int, priors: Priors | None) -> Float[np.ndarray, " concepts"]:
    known = (priors or {}).get(neuron)
    return np.full(n, np.nan) if known is None else np.asarray(known, float)


def _check_retrieved(generator: Retriever, probe: ProbeSet, images_per_concept: int) -> None:
    """Raise `UsageError` unless there are enough images to score on, none of them a probing image."""
    if shared := generator.ids & frozenset(probe.original_ids):
        raise UsageError(
            f"generator=retrieval: {len(shared)} of its images are images of the probing set, too"
            f" ({probe.told(shared)}): move them, or choose another folder"
        )
    if len(generator.ids) < 2 * images_per_concept:
        raise UsageError(
            f"generator=retrieval has {len(generator.ids)} images; images_per_concept={images_per_concept}"
            " needs twice as many, since evaluators look at others than those that chose a label"
        )
