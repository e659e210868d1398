"""One beam search for several images: their log probabilities are averaged at every step."""

from __future__ import annotations

from torch import Tensor
from transformers import LogitsProcessor


class Together(LogitsProcessor):  # type: ignore[misc]
    """The rows of a batch are `n_images` images of one subject, each with its beams, in order.

    As all images get the same scores, their beams stay the same.
    """

    def __init__(self, n_images: int) -> None:
        self.n_images = n_images

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [images * beams, tokens]: log probabilities of the next token."""
        by_image = scores.reshape(self.n_images, -1, scores.shape[1])
        together: Tensor = by_image.mean(dim=0).repeat(self.n_images, 1)
        return together
