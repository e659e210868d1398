"""Captions by BLIP and BLIP-2 through transformers (DnD 3.2 and A.4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import transformers
from transformers import (
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipForConditionalGeneration,
    BlipProcessor,
)
from transformers.utils import logging as transformers_logging

from dnr_bench.data.images import View
from dnr_bench.infra.devices import Batches, Dtype, checked_device, take_turn, torch_dtype
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import model_directory
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.shipped import world_of

_FAMILIES = {
    "blip": (BlipForConditionalGeneration, BlipProcessor),
    "blip-2": (Blip2ForConditionalGeneration, Blip2Processor),
}


class BlipCaptioner:
    """Greedy captions of at most `max_new_tokens` tokens; `checkpoint`: a directory or a name on the hub.

    prompt: what a caption begins with, or for BLIP-2 a question ("Question: what is this? Answer:"), which is
    no part of the caption; None: nothing.
    """

    def __init__(
        self,
        family: Literal["blip", "blip-2"],
        checkpoint: str,
        prompt: str | None,
        max_new_tokens: int,
        device: str,
        dtype: Dtype,
        batch_size: int,
    ) -> None:
        check_range(1, 4096, max_new_tokens=max_new_tokens)
        self.device, self.dtype, self.batches = (
            checked_device(device),
            torch_dtype(dtype),
            Batches(batch_size),
        )
        self.prompt, self.max_new_tokens, self.world = prompt, max_new_tokens, world_of(checkpoint)
        path, weights = model_directory(checkpoint)
        transformers_logging.disable_progress_bar()  # of loading weights, which is quick
        kind, processor = _FAMILIES[family]
        try:
            self.processor = processor.from_pretrained(path)
            self.model = kind.from_pretrained(path, dtype=self.dtype).eval()
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(f"checkpoint={checkpoint!r} is no {kind.__name__}: {reason}") from error
        # BLIP-2 on a decoder gives the question back, on an encoder and decoder (T5) only its answer
        is_decoder = family == "blip-2" and not self.model.language_model.config.is_encoder_decoder
        self.repeats_prompt = prompt is not None and is_decoder
        self.fingerprint = digest(
            {
                "weights": weights,
                "family": family,
                "prompt": prompt,
                "max_new_tokens": max_new_tokens,
                "dtype": dtype,
                "transformers": transformers.__version__,
            }
        )

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption per view, in order."""
        return [caption for part in self.batches.over(views, self._captions) for caption in part]

    @torch.inference_mode()
    def _captions(self, views: Sequence[View]) -> list[str]:
        take_turn(self.model, self.device)
        asked = {} if self.prompt is None else {"text": [self.prompt] * len(views)}
        inputs = self.processor(
            images=[view.pixels for view in views],
            input_data_format="channels_last",
            return_tensors="pt",
            **asked,
        ).to(self.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        if self.prompt is None:
            inputs = {"pixel_values": inputs["pixel_values"]}
        tokens = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        if self.repeats_prompt:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        captions = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in captions]
