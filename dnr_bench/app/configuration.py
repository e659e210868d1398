"""From a composed config to a run that is ready to start: build and check."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from dnr_bench.app.composition import Paths, resolved
from dnr_bench.app.neurons import NeuronSelection
from dnr_bench.app.parts import PartBuilder, called
from dnr_bench.app.run import RunConfig
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.shard import Shard
from dnr_bench.infra.devices import Dtype, checked_device
from dnr_bench.infra.errors import DnrError, NothingToJudgeError, UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.shipped import config_members
from dnr_bench.infra.store import Store
from dnr_bench.probes.perturbed import BlurRegion, Perturbation, PerturbedProbe
from dnr_bench.protocols import (
    Corruption,
    Generator,
    ImageTextEncoder,
    Metered,
    OfOneWorld,
    Probe,
    Scorer,
    Target,
)
from dnr_bench.session import Evaluator, Method
from dnr_bench.stages.concept_images import DrawingSettings
from dnr_bench.stages.exemplars import ExemplarSettings

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class TopLevel:
    """The top-level values of conf/config.yaml that are no part's, with their types."""

    seed: int
    blur: float
    blur_radius: int | None
    blur_region: BlurRegion
    device: str
    dtype: Dtype
    experiment_name: str
    report: bool
    verbose: bool
    debug: bool
    dry: bool
    shard: str | None

    def __post_init__(self) -> None:
        check_range(0, 2**53, seed=self.seed)
        if not 0 < len(self.experiment_name) <= _LONGEST_NAME or not self.experiment_name.isprintable():
            raise UsageError(
                f"experiment_name must have 1 to {_LONGEST_NAME} printable characters, and has"
                f" {len(self.experiment_name)}"
            )
        checked_device(self.device)


@dataclass(frozen=True)
class Tracking:
    """Where runs are logged; null: the environment variable says, or a database in paths.mlruns."""

    uri: str | None


#: Of an experiment; MLflow refuses longer ones.
_LONGEST_NAME = 250
#: Top-level keys that every run reads, whatever its parts are.
_ALWAYS = {
    *TopLevel.__annotations__, *DrawingSettings.__annotations__, "neurons", "exemplars", "paths", "tracking",
    "store", "generator", "encoder", "evaluator", "hydra", "experiment", "variant",
}  # fmt: skip


def build_run(
    config: DictConfig,
    overrides: Sequence[str] = (),
    given: Mapping[str, object] | None = None,
    evaluators: Mapping[str, Evaluator] | None = None,
    sharded: bool = False,
) -> RunConfig:
    """Build every part of a run.

    Args:
        config: as composed by Hydra.
        overrides: what was asked for on the command line; what no part would look at is refused.
        given: parts by group that are there already.
        evaluators: the same for evaluators, by name; they come beside those of the config.
        sharded: whether a shard of the neurons will do, where the config names one.

    Raises:
        UsageError: whatever is wrong with the config.
    """
    top = checked(TopLevel, "", {name: config[name] for name in TopLevel.__annotations__})
    exemplars = checked(ExemplarSettings, "exemplars", _values(config, "exemplars"))
    selection = checked(NeuronSelection, "neurons", _values(config, "neurons"))
    checked(Paths, "paths", _values(config, "paths"))
    checked(Tracking, "tracking", _values(config, "tracking"))
    drawing = checked(DrawingSettings, "", {name: config[name] for name in DrawingSettings.__annotations__})
    parts = PartBuilder(config, given)
    # a network may have to be loaded: whatever is wrong elsewhere is said before
    parts.part("scorer", Scorer)
    probe = _probe(top, parts)
    judges = {**_evaluators(config, parts), **(evaluators or {})}
    method = parts.part("method", Method)
    encoder, generator = parts.part("encoder", ImageTextEncoder), parts.part("generator", Generator)
    target = parts.part("target", Target)
    layers = selection.choose_layers(target.layers())
    store = parts.part("store", Store)
    neurons = _of_shard(selection.choose(layers, top.seed), store.sharing.shard, sharded)
    judges = _able(judges, neurons, target, store.sharing.shard is not None)
    _check_method(method, neurons, target)
    _refuse_unused(overrides, config, parts)
    _warn_of_foreign_images(parts)
    return RunConfig(
        method=method,
        neurons=neurons,
        evaluators=judges,
        target=target,
        layers=layers,
        probe=probe,
        encoder=encoder,
        generator=generator,
        exemplars=exemplars,
        drawing=drawing,
        seed=top.seed,
        store=store,
        metered={
            name: part
            for name, part in parts.built.items()
            if name in parts.within.get("method", ()) and isinstance(part, Metered)
        },
        resolved=resolved(config),
    )


def _of_shard(neurons: list[Neuron], shard: Shard | None, allowed: bool) -> list[Neuron]:
    """The neurons of a shard; all where there is none."""
    if shard is None:
        return neurons
    if not allowed:
        raise UsageError(f"shard={shard} is for single runs; leave it out here")
    if shard.n > len(neurons):
        raise UsageError(f"shard={shard}: there are {len(neurons)} neurons, and no more shards than these")
    return shard.of(neurons)


def checked(kind: type[T], where: str, values: Mapping[str, object]) -> T:
    """A settings object of these values; whatever is wrong with them raises `UsageError` with the key."""
    prefix = f"{where}." if where else ""
    return called(kind, values, where, {name: f"{prefix}{name}" for name in values})


def _values(config: DictConfig, name: str) -> dict[str, object]:
    if not isinstance(config[name], DictConfig):
        raise UsageError(f"{name}={config[name]} must be a dict of values; docs/config.md lists them")
    return resolved(config[name])


def _probe(top: TopLevel, parts: PartBuilder) -> Probe:
    """The probing set as it is to be seen: blurred or corrupted where that was asked for."""
    perturbation = {
        "blur": top.blur,
        "blur_radius": top.blur_radius,
        "blur_region": top.blur_region,
        "corruption": parts.part("corruption", Corruption),
    }
    return PerturbedProbe(parts.part("probe", Probe), checked(Perturbation, "", perturbation))


def evaluator_nodes(config: DictConfig) -> dict[str, DictConfig]:
    """The configs of the evaluators by name.

    A file that begins with _target_, as those of all other parts do, goes by the name of its class; of such
    files one can be chosen at a time, and "# @package evaluator.NAME" at the top of a file gives it a name.
    """
    node = config.get("evaluator")
    if node is None:  # evaluator=[] leaves no such key
        return {}
    if not isinstance(node, DictConfig):
        known = ", ".join(path.stem for path in config_members("evaluator"))
        raise UsageError(f"evaluator={node} names no evaluator: choose among {known}")
    found = {str(name): child for name, child in node.items() if _is_evaluator(child)}
    if "_target_" in node:
        rest = OmegaConf.masked_copy(node, [str(name) for name in node if str(name) not in found])
        rest._set_parent(config)
        found[str(node["_target_"]).rpartition(".")[2].lower()] = rest
    return found


def _evaluators(config: DictConfig, parts: PartBuilder) -> dict[str, Evaluator]:
    named = evaluator_nodes(config)
    return {name: parts.build(node, Evaluator, f"evaluator.{name}") for name, node in named.items()}


def _able(
    judges: Mapping[str, Evaluator], neurons: Sequence[Neuron], target: Target, of_shard: bool
) -> dict[str, Evaluator]:
    """The evaluators that have something to hold these neurons against; of the others people are told.

    of_shard: one that needs others than these neurons is left to the run that has them all.
    """
    able = {}
    for name, evaluator in judges.items():
        try:
            evaluator.check(neurons, target)
            able[name] = evaluator
        except NothingToJudgeError as error:
            _log.warning("%s is left out: %s", name, error)
        except UsageError:
            if not of_shard:
                raise
    return able


def _warn_of_foreign_images(parts: PartBuilder) -> None:
    """Tell of models that know images of one world only, and will see others."""
    world = getattr(parts.part("probe", Probe), "world", None)
    foreign = [
        group
        for group, part in parts.built.items()
        if isinstance(part, OfOneWorld) and part.world is not None and part.world != world
    ]
    if foreign:
        _log.warning(
            "%s: small embedded models that know the shapes world alone, and the probing set is another. What"
            " they make of it means little. For photographs: captioner=dataset or blip_base,"
            " encoder=open_clip, generator=retrieval or sd_turbo, sentence_encoder=mpnet",
            ", ".join(foreign),
        )


def _is_evaluator(child: object) -> bool:
    return isinstance(child, DictConfig) and "_target_" in child


def _check_method(method: Method, neurons: Sequence[Any], target: Target) -> None:
    try:
        method.check(neurons, target.layers())
    except DnrError as error:
        text = str(error)
        raise type(error)(f"method.{text}" if text.startswith("path=") else text) from error


def _refuse_unused(overrides: Sequence[str], config: DictConfig, parts: PartBuilder) -> None:
    """Refuse settings of the command line that no part of this run reads."""
    keys = dict.fromkeys(word.partition("=")[0].lstrip("+~").partition(".")[0] for word in overrides)
    unused = [key for key in keys if key in config and key not in parts.used | _ALWAYS]
    if unused:
        method = str(config.method.get("_target_")).rpartition(".")[2]
        raise UsageError(
            f"{', '.join(unused)}: nothing in this run looks at that; neither {method} nor the evaluators"
            " use it. Leave it out, or choose another method (method=describe) or evaluator"
        )
