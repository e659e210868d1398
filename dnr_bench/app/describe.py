"""The Python face: a live network, pictures in a folder, and words for its units; without Hydra or MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.app.vectors import keep_vectors
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store import Store
from dnr_bench.outputs.pages.run import write_report
from dnr_bench.outputs.pictures import take_pictures
from dnr_bench.protocols import (
    Captioner,
    Generator,
    ImageTextEncoder,
    Probe,
    Proposer,
    Scorer,
    Summarizer,
    Target,
)
from dnr_bench.results.schema import RunResult
from dnr_bench.session import Evaluator, Method, Session
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing

#: What torchvision's published weights were trained with.
IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, repr=False)
class LiveResult(RunResult):
    """A result whose pictures are still at hand, so that `report` can write its page."""

    session: Session | None = field(default=None, compare=False)

    def report(self, path: str | Path) -> Path:
        """Write result.json and report.html, a page with the pictures of every neuron, into a folder.

        Args:
            path: the folder; it is made where it does not exist.

        Returns:
            The path of report.html.
        """
        assert self.session is not None
        folder = Path(path)
        self.write(folder)
        keep_vectors(self, self.session, folder)
        return write_report(self, take_pictures(self, self.session, folder), folder)


def describe(
    model: nn.Module | Target | str,
    layers: Sequence[str],
    images: str | Path | Probe,
    *,
    units: Sequence[int] | str = "all",
    sample: int | None = None,
    preprocessing: Preprocessing | Any = IMAGENET,
    names: Mapping[str, Sequence[str]] | None = None,
    method: str | Method = "describe",
    captioner: str | Captioner = "blip",
    summarizer: str | Summarizer | Proposer = "consensus",
    generator: str | Generator = "diffusion",
    encoder: str | ImageTextEncoder = "clip",
    scorer: str | Scorer = "posterior",
    evaluators: Mapping[str, Evaluator] | None = None,
    settings: Sequence[str] = (),
    store: str | Path = "mlruns/store",
    device: str = "cpu",
    seed: int = 0,
) -> LiveResult:
    """Describe units of a network in words.

    Args:
        model: a live network, a target, or the name of a member of conf/target.
        layers: names of modules, as in `model.named_modules()`.
        images: a folder with pictures, or a data set; they excite the units.
        units: "all", a range like "0-15", or a sequence of numbers, for every layer.
        sample: describe only so many units of each layer, chosen at random by the seed.
        preprocessing: of pictures: a `Preprocessing`, or torchvision's `weights.transforms()`.
        names: the true names of a layer's units, where they are known.
        method, captioner, summarizer, generator, encoder, scorer: parts, or names of members of conf/.
        evaluators: what judges the labels, by name.
        settings: further settings, as on the command line: ["exemplars.n=5", "blur=2"].
        store: the folder where finished work is kept, so that the next call starts from it.
        device: cpu, cuda, cuda:1 ...
        seed: of every sampler.

    Returns:
        The result, with `to_pandas()`, `report(folder)` and a table for notebooks.

    Raises:
        UsageError: a name, type or range is wrong.
    """
    parts: dict[str, object] = {
        "method": method, "captioner": captioner, "summarizer": summarizer, "generator": generator,
        "encoder": encoder, "scorer": scorer,
    }  # fmt: skip
    parts["probe"] = "folder" if isinstance(images, str | Path) else images
    parts["target"] = _target(model, preprocessing, names, device)
    given = {group: part for group, part in parts.items() if not isinstance(part, str)}
    words = [f"{group}={part}" for group, part in parts.items() if isinstance(part, str)]
    words += [f"seed={seed}", f"device={device}", "evaluator=[]", "report=false", *settings]
    config = load_config(*words)
    OmegaConf.update(config, "neurons", {"layers": list(layers), "units": _units(units), "sample": sample})
    if isinstance(images, str | Path):
        OmegaConf.update(config, "probe.path", str(images))
    prepared = build_run(config, given={**given, "store": Store(store)}, evaluators=evaluators)
    session = prepared.session()
    return LiveResult(session=session, **_fields(run(prepared, session)))


def _fields(result: RunResult) -> dict[str, Any]:
    return {item.name: getattr(result, item.name) for item in fields(RunResult)}


def _units(units: Sequence[int] | str) -> list[int] | str:
    return units if isinstance(units, str) else [int(unit) for unit in units]


def _target(
    model: nn.Module | Target | str,
    preprocessing: Any,
    names: Mapping[str, Sequence[str]] | None,
    device: str,
) -> Target | str:
    if not isinstance(model, nn.Module):
        return model
    seen = preprocessing if isinstance(preprocessing, Preprocessing) else _of_transforms(preprocessing)
    return HookedTarget(model, seen, names=names, device=device)


def _of_transforms(preset: Any) -> Preprocessing:
    """That of torchvision's classification transforms."""
    try:
        (resize,), (crop,) = preset.resize_size, preset.crop_size
        return Preprocessing(resize, crop, preset.mean, preset.std, interpolation=preset.interpolation.value)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"preprocessing={preset!r} is neither a Preprocessing nor the transforms of torchvision's weights"
        ) from error
