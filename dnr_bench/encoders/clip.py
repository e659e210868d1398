"""CLIP through open_clip: images and texts in one space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor

from dnr_bench.data.images import Image
from dnr_bench.encoders.vocabulary import has_unknown_words
from dnr_bench.infra.devices import Batches, Dtype, checked_device, take_turn
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.fingerprints import checkpoint_path, directory_digest, model_digest
from dnr_bench.infra.hub import short_name
from dnr_bench.infra.shipped import world_of

_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class ClipEncoder:
    """Unit vectors in CLIP's joint space, with the checkpoint's own preprocessing.

    `model` and `preprocess` are what open_clip gives; `weights` identifies the model's weights; `world` is
    the only one that it knows, if so.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        *,
        name: str,
        weights: str,
        device: str,
        dtype: Dtype,
        batch_size: int,
        world: str | None = None,
    ) -> None:
        self.world = world
        self.name, self.device, self.batches = name, checked_device(device), Batches(batch_size)
        self.model, self.preprocess, self.tokenizer = model.eval(), preprocess, tokenizer
        self.dtype = open_clip.get_input_dtype(_PRECISION[dtype]) or torch.float32
        self.fingerprint = digest(
            {
                "weights": weights,
                "preprocessing": re.sub(r" at 0x\w+", "", repr(preprocess)),
                "tokenizer": f"{type(tokenizer).__name__} {getattr(tokenizer, 'context_length', '')}",
                "dtype": dtype,
                "open_clip": open_clip.__version__,
            }
        )

    def embed_images(self, images: Sequence[Image]) -> Float[np.ndarray, "images dim"]:
        """One unit vector per image."""
        return _joined(list(self.batches.over(images, self._images)))

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector per text."""
        return _joined(list(self.batches.over(texts, self._texts)))

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""
        return has_unknown_words(getattr(self.tokenizer, "tokenizer", None), texts)

    @torch.inference_mode()
    def _images(self, images: Sequence[Image]) -> Tensor:
        take_turn(self.model, self.device)
        pixels = torch.stack([self.preprocess(PILImage.fromarray(image)) for image in images])
        return _unit(self.model.encode_image(pixels.to(self.device, self.dtype)))

    @torch.inference_mode()
    def _texts(self, texts: Sequence[str]) -> Tensor:
        take_turn(self.model, self.device)
        return _unit(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))


def local_clip(checkpoint: str, device: str, dtype: Dtype, batch_size: int) -> ClipEncoder:
    """The CLIP of an open_clip directory (open_clip_config.json and weights), or an embedded one."""
    path = checkpoint_path(checkpoint)
    name = f"local-dir:{path}"
    model, preprocess = open_clip.create_model_from_pretrained(
        name, precision=_PRECISION[dtype], device="cpu", return_transform=True
    )
    return ClipEncoder(
        model,
        preprocess,
        open_clip.get_tokenizer(name),
        name=short_name(checkpoint),
        weights=directory_digest(path),
        world=world_of(checkpoint),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def named_clip(name: str, pretrained: str, device: str, dtype: Dtype, batch_size: int) -> ClipEncoder:
    """A CLIP of open_clip by the name of its architecture (ViT-B-16) and its tag, or a file of weights."""
    if name not in open_clip.list_models():
        raise UsageError(f"name={name!r} is no model of open_clip; python -c 'import open_clip;"
                         " print(open_clip.list_models())' lists them")  # fmt: skip
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not Path(pretrained).is_file() and pretrained not in tags:
        raise UsageError(f"pretrained={pretrained!r} is no file, and no tag of {name}: {', '.join(tags)}")
    try:
        model, preprocess = open_clip.create_model_from_pretrained(
            name,
            pretrained,
            precision=_PRECISION[dtype],
            device="cpu",
            return_transform=True,
            weights_only=True,
            **_preprocessing(name, pretrained, tags),
        )
    except Exception as error:  # of the hub's client, of pickle, or of weights that do not fit
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"pretrained={pretrained!r} of {name} could not be had: {reason}") from error
    return ClipEncoder(
        model,
        preprocess,
        open_clip.get_tokenizer(name),
        name=f"{name} {short_name(pretrained)}",
        weights=model_digest(model),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _preprocessing(name: str, pretrained: str, tags: Sequence[str]) -> dict[str, Any]:
    """For a file of weights that of the architecture's published weights; tags bring their own."""
    if not Path(pretrained).is_file() or not tags:
        return {}
    known = open_clip.get_pretrained_cfg(name, tags[0])
    names = {
        "mean": "image_mean",
        "std": "image_std",
        "interpolation": "image_interpolation",
        "resize_mode": "image_resize_mode",
    }
    return {ours: known[theirs] for theirs, ours in names.items() if known.get(theirs) is not None}


def _unit(vectors: Tensor) -> Tensor:
    """Normalized in float32, whatever the model computes in."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()


def _joined(parts: list[Tensor]) -> Float[np.ndarray, "rows dim"]:
    return torch.cat(parts).numpy()
