"""CLIP embeddings through open_clip, from a checkpoint directory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor

from dnr_bench.errors import UsageError
from dnr_bench.fingerprints import checkpoint_path, directory_digest
from dnr_bench.hub import short_name
from dnr_bench.store import digest
from dnr_bench.types import Image


class ClipEncoder:
    """Unit vectors in CLIP's joint space, computed in float32 with the checkpoint's own preprocessing."""

    def __init__(self, checkpoint: str, device: str, batch_size: int) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        path = checkpoint_path(checkpoint)
        name = f"local-dir:{path}"
        self.name, self.device, self.batch_size = short_name(checkpoint), torch.device(device), batch_size
        self.model, self.preprocess = open_clip.create_model_from_pretrained(
            name, precision="fp32", device=device, return_transform=True
        )
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.fingerprint = digest(
            {"weights": directory_digest(path), "dtype": "float32", "open_clip": open_clip.__version__}
        )

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image]) -> Float[np.ndarray, "images dim"]:
        """One unit vector an image."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            block = images[start : start + self.batch_size]
            pixels = torch.stack([self.preprocess(PILImage.fromarray(image)) for image in block])
            parts.append(self.model.encode_image(pixels.to(self.device), normalize=True))
        return _joined(parts)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector a text."""
        parts = []
        for start in range(0, len(texts), self.batch_size):
            tokens = self.tokenizer(list(texts[start : start + self.batch_size]))
            parts.append(self.model.encode_text(tokens.to(self.device), normalize=True))
        return _joined(parts)


def _joined(parts: list[Tensor]) -> Float[np.ndarray, "rows dim"]:
    return torch.cat(parts).float().cpu().numpy()
