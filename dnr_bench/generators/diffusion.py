"""Draws prompts with any text-to-image pipeline of diffusers (step 3 of the method, DnD 3.3)."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dnr_bench.data.images import Image
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, is_cuda, take_turn, torch_dtype
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.fingerprints import checkpoint_path, directory_digest
from dnr_bench.infra.hub import fetched, is_local
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.shipped import world_of

_log = logging.getLogger(__name__)
_INDEX = "model_index.json"


#: How often a flagged image is drawn anew before the safety checker has its way.
_ATTEMPTS = 5


#: What the text encoder of a pipeline gives, by the names under which the pipeline takes it.
_ENCODED = {
    "StableDiffusionPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "LatentConsistencyModelPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "StableDiffusionXLPipeline": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
}


class DiffusionGenerator:
    """Images of `checkpoint`: a pipeline directory, "embedded:generator", or a name on the model hub.

    An image depends on its prompt and seed only: it has a random stream of its own (on the CPU, whatever the
    device), and batches are filled up, since kernels that are chosen for another number of rows round
    differently. With another `batch_size` (in float32, on the CPU) few of an image's values change, by one
    in 255. A value that is None leaves the pipeline's own default.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        revision: str | None,
        variant: str | None,
        scheduler: str | None,
        scheduler_options: Mapping[str, Any] | None,
        steps: int | None,
        guidance: float | None,
        negative_prompt: str | None,
        size: int | None,
        safety_checker: bool,
        compile: bool,
        dtype: Dtype,
        device: str,
        batch_size: int,
    ) -> None:
        _check_numbers(steps, size, guidance, negative_prompt)
        self.device, self.batches = checked_device(device), Batches(batch_size, device)
        path, weights = _located(checkpoint, revision, variant, safety_checker)
        if safety_checker and not _has_checker(path):
            raise UsageError(f"safety_checker=true, but {str(path)!r} has none")
        self.world = world_of(checkpoint)
        options = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "height": size,
            "width": size,
        }
        self.options = {name: value for name, value in options.items() if value is not None}
        self.negative_prompt = negative_prompt
        changes = dict(scheduler_options or {})

        def load() -> Any:
            pipeline = _loaded(path, variant, dtype, safety_checker)
            if scheduler is not None or changes:
                pipeline.scheduler = _scheduler(pipeline.scheduler, scheduler, changes)
            negative = {} if negative_prompt is None else {"negative_prompt": negative_prompt}
            _check_options(pipeline, {**self.options, **negative})
            _speed_up(pipeline, self.device, compile)
            return pipeline

        self._pipeline = OnDemand(load)
        if scheduler is not None or changes:  # names of diffusers', which it alone can check
            self._pipeline()
        self.fingerprint = digest(
            {
                "weights": weights,
                "variant": variant,
                "scheduler": scheduler,
                "scheduler_options": changes,
                "options": self.options,
                "negative_prompt": negative_prompt,
                "safety_checker": safety_checker,
                "dtype": dtype,
                "diffusers": version("diffusers"),
                "transformers": version("transformers"),
            }
        )

    @property
    def pipeline(self) -> Any:
        """The pipeline of diffusers, loaded when something is to be drawn."""
        return self._pipeline()

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> Iterator[Image]:
        """One image for each prompt and seed; batches hold the prompts of many concepts.

        An image that the safety checker flags is drawn anew with a seed made from its own.
        """
        requests = list(zip(prompts, seeds, strict=True))
        told = self._told(list(dict.fromkeys(prompts)))
        for batch in self.batches.over(requests, lambda block: self._unflagged(block, told)):
            yield from batch

    def _unflagged(self, requests: Sequence[tuple[str, int]], told: _Told) -> list[Image]:
        """At most one batch of images."""
        images = self._drawn(requests, told)
        for attempt in range(1, _ATTEMPTS):
            flagged = [place for place, image in enumerate(images) if image is None]
            if not flagged:
                break
            _log.warning("the safety checker flagged %d images, which are drawn anew", len(flagged))
            again = [(requests[place][0], _reseeded(requests[place][1], attempt)) for place in flagged]
            for place, image in zip(flagged, self._drawn(again, told), strict=True):
                images[place] = image
        found = [image for image in images if image is not None]
        if len(found) < len(images):
            prompt = next(p for (p, _), image in zip(requests, images, strict=True) if image is None)
            raise RunError(
                f"the safety checker flagged every one of {_ATTEMPTS} images of {prompt!r}; "
                "generator.safety_checker=false goes without"
            )
        return found

    def _drawn(self, requests: Sequence[tuple[str, int]], told: _Told) -> list[Image | None]:
        """At most one batch of images; None where the safety checker objects."""
        import torch

        pipeline = self._pipeline()
        take_turn(pipeline, self.device)
        n, missing = len(requests), self.batches.size - len(requests)
        prompts, seeds = [prompt for prompt, _ in requests], [seed for _, seed in requests]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds + seeds[-1:] * missing]
        with torch.inference_mode():
            output = pipeline(
                **told.of(prompts + prompts[-1:] * missing),
                generator=generators,
                output_type="np",
                **self.options,
            )
        if not np.isfinite(output.images).all():
            raise RunError("the generator gave images that are not numbers; try generator.dtype=float32")
        flags = getattr(output, "nsfw_content_detected", None) or [False] * n
        pixels = np.rint(np.clip(output.images[:n], 0, 1) * 255).astype(np.uint8, order="C")
        return [None if flag else image for image, flag in zip(pixels, flags[:n], strict=True)]

    def _told(self, prompts: Sequence[str]) -> _Told:
        """What to draw, for the pipeline: its text encoder sees each prompt once, in batches of one size."""
        import torch

        pipeline, vectors = self._pipeline(), dict[str, dict[str, Any]]()
        if type(pipeline).__name__ not in _ENCODED:
            return _Told(self.negative_prompt, vectors)
        default = inspect.signature(type(pipeline).__call__).parameters["guidance_scale"].default
        names = _ENCODED[type(pipeline).__name__]
        guided = self.options.get("guidance_scale", default) > 1

        def work(block: Sequence[str]) -> None:
            padded = [*block, *[block[-1]] * (self.batches.size - len(block))]
            take_turn(pipeline, self.device)
            with torch.inference_mode():
                encoded = pipeline.encode_prompt(
                    prompt=padded,
                    device=pipeline.device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=guided,
                    negative_prompt=_repeated(self.negative_prompt, len(padded)),
                )
            known = {name: found for name, found in zip(names, encoded, strict=True) if found is not None}
            for row, prompt in enumerate(block):
                vectors[prompt] = {name: found[row] for name, found in known.items()}

        for _ in self.batches.over(prompts, work):
            pass
        return _Told(self.negative_prompt, vectors)


@dataclass(frozen=True)
class _Told:
    """Prompts for a pipeline; vectors: what its text encoder has made of them, if it takes that."""

    negative_prompt: str | None
    vectors: Mapping[str, Mapping[str, Any]]

    def of(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The arguments of the pipeline for a batch."""
        if not self.vectors:
            negative = _repeated(self.negative_prompt, len(prompts))
            given = {"prompt": list(prompts), "negative_prompt": negative}
            return {name: value for name, value in given.items() if value is not None}
        import torch

        rows = [self.vectors[prompt] for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _repeated(text: str | None, n: int) -> list[str] | None:
    return None if text is None else [text] * n


def _check_numbers(
    steps: int | None, size: int | None, guidance: float | None, negative_prompt: str | None
) -> None:
    check_range(1, 1000, steps=steps)
    check_range(8, 8192, size=size)
    check_range(0, 1000, guidance=guidance)
    if size is not None and size % 8:
        raise UsageError(f"size={size} must be a multiple of 8")
    if negative_prompt is not None and guidance is not None and guidance <= 1:
        raise UsageError(f"negative_prompt={negative_prompt!r} needs guidance above 1, not {guidance}")


def _speed_up(pipeline: Any, device: str, compile: bool) -> None:
    """Speed settings that leave the images the same: memory format, and torch.compile of the denoiser."""
    import torch

    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    if is_cuda(device):
        denoiser.to(memory_format=torch.channels_last)
    if compile:
        denoiser.compile()


def _reseeded(seed: int, attempt: int) -> int:
    """The seed itself first; then others that depend on it only."""
    return seed if attempt == 0 else int(digest({"seed": seed, "attempt": attempt})[:14], 16)


def _located(
    checkpoint: str, revision: str | None, variant: str | None, safety_checker: bool
) -> tuple[Path, str]:
    """The directory of a pipeline, fetched if it is a name on the hub, and what identifies its weights."""
    if is_local(checkpoint):
        if revision is not None:
            raise UsageError(
                f"revision={revision!r} is for names on the model hub; {checkpoint} is a directory"
            )
        path = checkpoint_path(checkpoint)
        _check_weights(path)
        return path, directory_digest(path, _index(path).keys() | {_INDEX})
    without = {} if safety_checker else {"safety_checker": None}

    def download() -> str:
        from diffusers import DiffusionPipeline

        found: str = DiffusionPipeline.download(
            checkpoint, revision=revision, variant=variant, use_safetensors=True, **without
        )
        return found

    snapshot = fetched(checkpoint, download)
    return snapshot, snapshot.name  # the commit


def _index(path: Path) -> dict[str, Any]:
    """The parts of a pipeline, as model_index.json lists them."""
    index = path / _INDEX
    if not index.is_file():
        raise UsageError(f"checkpoint={str(path)!r} is no diffusers pipeline (it has no {_INDEX})")
    content: dict[str, Any] = json.loads(index.read_text())
    return content


def _check_weights(path: Path) -> None:
    """Raises `UsageError`, before anything is loaded, for parts whose weights are in pickles only."""
    for part in _index(path):
        pickled = [file.name for file in (path / part).glob("*.bin")]
        if pickled and not any((path / part).glob("*.safetensors")):
            raise UsageError(f"checkpoint={str(path)!r}: {part}/{pickled[0]} is no safetensors file")


def _has_checker(path: Path) -> bool:
    return bool(_index(path).get("safety_checker", [None, None]) != [None, None])


def _loaded(path: Path, variant: str | None, dtype: Dtype, safety_checker: bool) -> Any:
    import diffusers
    import transformers

    without = {"safety_checker": None, "requires_safety_checker": False}
    diffusers.utils.logging.disable_progress_bar()  # of loading
    transformers.utils.logging.disable_progress_bar()
    try:
        pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
            path,
            dtype=torch_dtype(dtype),
            variant=variant,
            use_safetensors=True,
            **(without if _has_checker(path) and not safety_checker else {}),
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"checkpoint={str(path)!r}: {error}") from error
    pipeline.set_progress_bar_config(disable=True)  # the run has its own
    return pipeline


def _scheduler(saved: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    """The saved scheduler, or another on the same noise schedule, with some options changed."""
    import diffusers

    name = name or type(saved).__name__
    kind: Any = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if kind is None:
        fitting = ", ".join(sorted(kind.__name__ for kind in saved.compatibles))
        raise UsageError(f"scheduler={name!r} is no scheduler of diffusers; here fit {fitting}")
    known = sorted(inspect.signature(kind).parameters)
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(
            f"scheduler_options={dict(options)}: {name} has no {unknown}; it has {', '.join(known)}"
        )
    return kind.from_config(saved.config, **options)


def _check_options(pipeline: Any, options: Mapping[str, Any]) -> None:
    known = inspect.signature(type(pipeline).__call__).parameters
    names = {"num_inference_steps": "steps", "guidance_scale": "guidance", "height": "size", "width": "size"}
    for option in options:
        if option not in known:
            raise UsageError(
                f"{names.get(option, option)}={options[option]!r} is no option of {type(pipeline).__name__}; "
                "leave it null"
            )
