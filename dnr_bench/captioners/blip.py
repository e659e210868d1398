"""BLIP captions through transformers, from a checkpoint directory (DnD 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from transformers import BlipForConditionalGeneration, BlipProcessor
from transformers.utils import logging as transformers_logging

from dnr_bench.errors import UsageError
from dnr_bench.fingerprints import checkpoint_path, directory_digest
from dnr_bench.store import digest
from dnr_bench.types import View


class BlipCaptioner:
    """Greedy captions of at most `max_new_tokens` tokens."""

    def __init__(self, checkpoint: str, max_new_tokens: int, device: str, batch_size: int) -> None:
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise UsageError(f"{name}={value} must be at least 1")
        path = checkpoint_path(checkpoint)
        transformers_logging.disable_progress_bar()  # of loading weights, which is quick
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.processor = BlipProcessor.from_pretrained(path)
        model = BlipForConditionalGeneration.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
        self.model = model.to(device).eval()
        self.fingerprint = digest(
            {
                "weights": directory_digest(path),
                "max_new_tokens": max_new_tokens,
                "dtype": "float32",
                "transformers": transformers.__version__,
            }
        )

    @torch.inference_mode()
    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption a view, in order."""
        captions: list[str] = []
        for start in range(0, len(views), self.batch_size):
            images = [view.pixels for view in views[start : start + self.batch_size]]
            inputs = self.processor(images=images, input_data_format="channels_last", return_tensors="pt").to(
                self.model.device
            )
            tokens = self.model.generate(
                pixel_values=inputs["pixel_values"], max_new_tokens=self.max_new_tokens, do_sample=False
            )
            captions += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [caption.strip() for caption in captions]
