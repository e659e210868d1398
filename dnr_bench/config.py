"""From a composed Hydra config to the objects of a run: the one place that instantiates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import jaxtyping
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from dnr_bench.bench import RunConfig
from dnr_bench.captioners.dataset import DatasetCaptioner
from dnr_bench.captioners.none import NoCaptions
from dnr_bench.devices import Dtype, checked_device
from dnr_bench.errors import DnrError, UsageError
from dnr_bench.exemplars import ExemplarSettings
from dnr_bench.label_files import check_units
from dnr_bench.labels import LabelSettings
from dnr_bench.neurons import NeuronSelection
from dnr_bench.parts import (
    Captioner,
    Corruption,
    Evaluator,
    Generator,
    ImageTextEncoder,
    Probe,
    Proposals,
    Proposer,
    Scorer,
    Summarizer,
    Target,
)
from dnr_bench.pipeline import Method, Parts, Settings
from dnr_bench.probes.perturbed import BlurRegion, Perturbation
from dnr_bench.refinement import Refinement
from dnr_bench.renderings import DrawingSettings
from dnr_bench.summarizers.captions import CaptionsAsCandidates
from dnr_bench.types import Candidate, Layer, Neuron
from dnr_bench.user_concepts import user_concepts

T = TypeVar("T")


@dataclass(frozen=True)
class TopLevel:
    """The top-level values of conf/config.yaml, with their types."""

    seed: int
    blur: float
    blur_region: BlurRegion
    device: str
    dtype: Dtype
    images_per_concept: int
    n_candidates: int
    prompt: str
    experiment_name: str
    debug: bool

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed={self.seed} must be at least 0")
        if not self.experiment_name:
            raise UsageError("experiment_name is empty")
        checked_device(self.device)


@dataclass(frozen=True)
class Paths:
    """Where results go, relative to the working directory."""

    store: str
    mlruns: str


def build_run(config: DictConfig) -> RunConfig:
    """Build every part of a run; whatever is wrong with the config raises `UsageError`."""
    top = _checked(TopLevel, "", {name: config[name] for name in TopLevel.__annotations__})
    exemplars = _checked(ExemplarSettings, "exemplars", resolved(config.exemplars))
    selection = _checked(NeuronSelection, "neurons", resolved(config.neurons))
    paths = _checked(Paths, "paths", resolved(config.paths))
    drawing = _checked(
        DrawingSettings, "", {"prompt": top.prompt, "images_per_concept": top.images_per_concept}
    )
    labels = _checked(LabelSettings, "", {name: config[name] for name in LabelSettings.__annotations__})
    refinement = build(config.refine, Refinement, "refine")
    perturbation = _checked(
        Perturbation,
        "",
        {
            "blur": top.blur,
            "blur_region": top.blur_region,
            "corruption": build(config.corruption, Corruption, "corruption"),
        },
    )
    scorer = build(config.scorer, Scorer, "scorer")  # cheap parts first, so that their errors come at once
    probe = build(config.probe, Probe, "probe")
    method = build(config.method, Method, "method")
    summarizer = _summarizer(config.summarizer) if method.has_candidates else CaptionsAsCandidates()
    evaluators = {
        str(name): build(node, Evaluator, f"evaluator.{name}")
        for name, node in (config.get("evaluator") or {}).items()  # evaluator=[] leaves no such key
    }
    target = build(config.target, Target, "target")
    layers = selection.choose_layers(target.layers())
    neurons = selection.choose(layers, top.seed)
    method.check(neurons, target.layers())
    for evaluator in evaluators.values():
        evaluator.check(neurons, target)
    settings = _checked(
        Settings,
        "",
        {
            "exemplars": exemplars,
            "drawing": drawing,
            "refinement": refinement,
            "labels": labels,
            "proposed": _proposed(config, neurons, target.layers()),
            "n_candidates": top.n_candidates,
            "seed": top.seed,
        },
    )
    if not method.has_candidates:
        _refuse_unused(config, settings)
    captioner = build(config.captioner, Captioner, "captioner") if method.has_candidates else NoCaptions()
    is_asked = not isinstance(summarizer, Proposer)
    if refinement.max_iterations and isinstance(captioner, DatasetCaptioner) and is_asked:
        raise UsageError(
            "refine=iterative captions generated images, which have no captions of a data set: it needs a"
            " captioner that is a model (captioner=blip, clip_concepts)"
        )
    parts = Parts(
        target=target,
        captioner=captioner,
        summarizer=summarizer,
        generator=build(config.generator, Generator, "generator"),
        encoder=build(config.encoder, ImageTextEncoder, "encoder"),
        scorer=scorer,
    )
    return RunConfig(
        method,
        parts,
        settings,
        probe,
        perturbation,
        layers,
        neurons,
        evaluators,
        Path(paths.store),
        resolved(config),
    )


def _refuse_unused(config: DictConfig, settings: Settings) -> None:
    """What a method that knows only its own concepts would pass over without a word."""
    asked = []
    if any(settings.proposed.values()):
        asked.append("user_concepts and proposals")
    if settings.refinement.max_iterations:
        asked.append("refine=iterative")
    if asked:
        method = str(config.method.get("_target_")).rpartition(".")[2]
        raise UsageError(
            f"{' and '.join(asked)} are for method=describe; {method} has concepts of its own only"
        )


def _summarizer(node: DictConfig) -> Summarizer | Proposer:
    part = build(node, object, "summarizer")
    if not isinstance(part, Summarizer | Proposer):
        raise UsageError(f"summarizer: {node.get('_target_')} is neither a Summarizer nor a Proposer")
    return part


def _proposed(
    config: DictConfig, neurons: Sequence[Neuron], layers: Sequence[Layer]
) -> dict[Neuron, list[Candidate]]:
    """The candidates of another method, then the user's, of each neuron that has some."""
    theirs = build(config.proposals, Proposals, "proposals").read()
    check_units(theirs, layers, "proposals")
    mine = user_concepts(_plain(config.user_concepts), neurons, layers)
    if theirs and not any(theirs.get(neuron) for neuron in neurons):
        raise UsageError(
            f"proposals.path={config.proposals.path!r} has labels for {next(iter(theirs))} ..., but for none"
            f" of this run's neurons ({neurons[0]} ...)"
        )
    return {
        neuron: [
            *(Candidate(text, "method") for text in theirs.get(neuron, ())),
            *(Candidate(text, "user") for text in mine.get(neuron, ())),
        ]
        for neuron in neurons
    }


def resolved(node: DictConfig) -> dict[str, Any]:
    """A config or a part of it as plain values, interpolations resolved."""
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _plain(node: Any) -> Any:
    """A list of a config as a list; other values as they are."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def build(node: DictConfig, protocol: type[T], where: str) -> T:
    """Instantiate `node._target_` and check that it keeps the protocol."""
    try:
        part = instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None:
            raise UsageError(f"{where}: {str(error).splitlines()[0]}") from error
        if isinstance(cause, TypeError) and "argument" in str(cause):
            allowed = ", ".join(signature(get_object(node["_target_"])).parameters)
            raise UsageError(f"{where}: {cause}; allowed keys: {allowed}") from error
        raise _helpful(cause, where) from error
    if not isinstance(part, protocol):
        raise UsageError(f"{where}: {node.get('_target_')} is not a {protocol.__name__}")
    return part


def _checked(kind: type[T], where: str, values: dict[str, Any]) -> T:
    try:
        return kind(**values)
    except (DnrError, TypeError, jaxtyping.TypeCheckError) as error:
        raise _helpful(error, where) from error


def _helpful(error: BaseException, where: str) -> DnrError:
    """The error as one message that starts with the config key; what could not be carried out stays that."""
    prefix = f"{where}." if where else ""
    if isinstance(error, jaxtyping.TypeCheckError):
        return UsageError(_type_message(str(error), prefix))
    if isinstance(error, DnrError):
        message = str(error)
        names_value = re.match(r"\w+=", message) is not None
        return type(error)(f"{prefix}{message}" if names_value else _after(where, message))
    return UsageError(f"{where or 'config'}: {error}")


def _after(where: str, message: str) -> str:
    return message if not where or message.startswith(f"{where}.") else f"{where}: {message}"


def _type_message(text: str, prefix: str) -> str:
    """jaxtyping's report of a wrong argument, shortened to the key, the value and the type."""
    name = re.search(r"parameter '(\w+)'", text)
    value = re.search(r"Actual value: (.*)", text)
    expected = re.search(r"Expected type: (.*?)\.?\n", text)
    if not (name and value and expected):
        return f"{prefix.rstrip('.')}: {text.splitlines()[0]}"
    kind = re.sub(r"<class '([\w.]+)'>|typing\.|collections\.abc\.", r"\1", expected[1])
    return f"{prefix}{name[1]}={value[1].strip()} is not of type {kind}"
