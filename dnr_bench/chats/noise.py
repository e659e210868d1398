"""Sampling of answers whose noise depends on their own question and seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from dnr_bench.data.chat import Question


class Sampling(LogitsProcessor):  # type: ignore[misc]
    """Sampling at each row's temperature by Gumbel noise from a stream of its own: the highest sum wins."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.temperatures = [question.temperature for question in questions]
        self.streams = [torch.Generator().manual_seed(question.seed) for question in questions]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with the noise of each row's own stream."""
        """The scores with the noise of each row's own stream."""
        noisy = scores.float()
        for row, (temperature, stream) in enumerate(zip(self.temperatures, self.streams, strict=True)):
            if temperature > 0:
                uniform = torch.rand(scores.shape[1], generator=stream).clamp_min(1e-20)
                gumbel = -torch.log(-torch.log(uniform))
                noisy[row] = noisy[row] / temperature + gumbel.to(noisy.device)
        return noisy
