"""Captions by BLIP and BLIP-2 through transformers (DnD 3.2 and A.4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dnr_bench.data.images import View
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, stacked, take_turn, torch_dtype
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import config_value, model_directory
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.shipped import world_of

if TYPE_CHECKING:
    from torch import Tensor

Family = Literal["blip", "blip-2"]


@dataclass(frozen=True)
class Blip:
    """A model of transformers and its processor; `repeats_prompt`: its answers begin with the question."""

    model: Any
    processor: Any
    repeats_prompt: bool

    def pixels(self, view: View) -> Tensor:
        """What the model is given of a view."""
        found = self.processor.image_processor(
            images=view.pixels, input_data_format="channels_last", return_tensors="pt"
        )
        values: Tensor = found["pixel_values"][0]
        return values


class BlipCaptioner:
    """Greedy captions of at most `max_new_tokens` tokens; `checkpoint`: a directory or a name on the hub.

    prompt: what a caption begins with, or for BLIP-2 a question ("Question: what is this? Answer:"), which is
    no part of the caption; None: nothing.
    """

    def __init__(
        self,
        family: Family,
        checkpoint: str,
        prompt: str | None,
        max_new_tokens: int,
        device: str,
        dtype: Dtype,
        batch_size: int,
    ) -> None:
        check_range(1, 4096, max_new_tokens=max_new_tokens)
        self.device, self.dtype, self.batches = checked_device(device), dtype, Batches(batch_size, device)
        self.prompt, self.max_new_tokens, self.world = prompt, max_new_tokens, world_of(checkpoint)
        path, weights = model_directory(checkpoint)
        check_family(path, family, checkpoint)
        self._blip = OnDemand(lambda: load_blip(path, family, dtype, checkpoint))
        self.fingerprint = digest(
            {
                "weights": weights,
                "family": family,
                "prompt": prompt,
                "max_new_tokens": max_new_tokens,
                "dtype": dtype,
                "transformers": version("transformers"),
            }
        )

    def caption(self, views: Sequence[View]) -> Iterator[str]:
        """One caption per view, in order; views are decoded and resized ahead of the model."""
        blip = self._blip()
        for part in self.batches.over_prepared(
            views, blip.pixels, partial(stacked, device=self.device), self._captions
        ):
            yield from part

    def questions(self, n: int) -> dict[str, Tensor]:
        """The prompt as n rows of tokens; the processor puts the places of the image before a question."""
        if self.prompt is None:
            return {}
        any_image = np.zeros((8, 8, 3), np.uint8)  # BLIP-2's processor leaves the places out without one
        asked = self._blip().processor(
            images=any_image, text=[self.prompt] * n, input_data_format="channels_last", return_tensors="pt"
        )
        return {name: rows.to(self.device) for name, rows in asked.items() if name != "pixel_values"}

    def _captions(self, pixels: Tensor) -> list[str]:
        import torch

        blip = self._blip()
        take_turn(blip.model, self.device)
        inputs = self.questions(len(pixels))
        values = pixels.to(self.device, non_blocking=True).to(torch_dtype(self.dtype))
        with torch.inference_mode():
            tokens = blip.model.generate(
                pixel_values=values, **inputs, max_new_tokens=self.max_new_tokens, do_sample=False
            )
        if self.prompt is not None and blip.repeats_prompt:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        captions = blip.processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in captions]


def check_family(path: Path, family: Family, checkpoint: str) -> None:
    """Raises `UsageError`, before anything is loaded, for a folder of another kind of model."""
    kind = config_value(path, "model_type", str, f"checkpoint={checkpoint!r} is no captioner")
    if kind != family:
        raise UsageError(f"checkpoint={checkpoint!r} is a model of type {kind!r}, not {family!r}")


def load_blip(path: Path, family: Family, dtype: Dtype, checkpoint: str) -> Blip:
    """The model in a folder; anything else there raises `UsageError`."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # of loading weights, which is quick
    kind, processor = {
        "blip": (transformers.BlipForConditionalGeneration, transformers.BlipProcessor),
        "blip-2": (transformers.Blip2ForConditionalGeneration, transformers.Blip2Processor),
    }[family]
    try:
        ready = processor.from_pretrained(path)
        model = kind.from_pretrained(path, dtype=torch_dtype(dtype)).eval()
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"checkpoint={checkpoint!r} is no {kind.__name__}: {reason}") from error
    # BLIP-2 on a decoder gives the question back, on an encoder and decoder (T5) only its answer
    repeats = family == "blip-2" and not model.language_model.config.is_encoder_decoder
    return Blip(model, ready, repeats)
