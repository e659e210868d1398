"""CLIP through open_clip: images and texts in one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image as PILImage

from dnr_bench.data.images import Image
from dnr_bench.encoders.vocabulary import Vocabulary
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, stacked, take_turn
from dnr_bench.infra.digests import content_digest, digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.fingerprints import checkpoint_path, directory_digest
from dnr_bench.infra.hub import short_name
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.shipped import world_of

if TYPE_CHECKING:
    from torch import Tensor

_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Clip:
    """What open_clip gives: a model, its preprocessing of images and its tokenizer."""

    model: Any
    preprocess: Any
    tokenizer: Any


class ClipEncoder:
    """Unit vectors in CLIP's joint space, with the checkpoint's own preprocessing.

    Args:
        load: gives the model, which is not there before vectors are asked for that are not stored.
        name: for people.
        weights: identifies the model, its preprocessing and its tokenizer.
        vocabulary: which words the tokenizer knows.
        device, dtype, batch_size: where and how the model computes.
        world: the only one that it knows, if so.
    """

    def __init__(
        self,
        load: Callable[[], Clip],
        *,
        name: str,
        weights: str,
        vocabulary: Vocabulary,
        device: str,
        dtype: Dtype,
        batch_size: int,
        world: str | None = None,
    ) -> None:
        self.world, self.vocabulary, self.dtype = world, vocabulary, dtype
        self.name, self.device, self.batches = name, checked_device(device), Batches(batch_size, device)
        self._clip = OnDemand(load)
        self.fingerprint = digest(
            {"weights": weights, "dtype": dtype, "open_clip": version("open_clip_torch")}
        )

    def embed_images(self, images: Sequence[Image]) -> Float[np.ndarray, "images dim"]:
        """One unit vector per image; images are decoded and resized ahead of the model."""
        preprocess = self._clip().preprocess
        vectors = self.batches.over_prepared(
            images,
            lambda image: preprocess(PILImage.fromarray(image)),
            partial(stacked, device=self.device),
            self._images,
        )
        return _joined(list(vectors))

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector per text."""
        return _joined(list(self.batches.over(texts, self._texts)))

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""
        return self.vocabulary.unknown(texts)

    def sigmoid(self) -> tuple[float, float] | None:
        """a and b of sigmoid(a (cosine + b)), the chance that text and image match, where it is trained.

        Only SigLIP models are; None for the others.
        """
        model = self._clip().model
        if getattr(model, "logit_bias", None) is None:
            return None
        a = float(model.logit_scale.exp())
        return a, float(model.logit_bias) / a

    def _images(self, pixels: Tensor) -> Tensor:
        import open_clip
        import torch

        model, dtype = self._clip().model, open_clip.get_input_dtype(_PRECISION[self.dtype]) or torch.float32
        take_turn(model, self.device)
        with torch.inference_mode():
            return _unit(model.encode_image(pixels.to(self.device, non_blocking=True).to(dtype)))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        import torch

        clip = self._clip()
        take_turn(clip.model, self.device)
        with torch.inference_mode():
            return _unit(clip.model.encode_text(clip.tokenizer(list(texts)).to(self.device)))


def local_clip(checkpoint: str, device: str, dtype: Dtype, batch_size: int) -> ClipEncoder:
    """The CLIP of an open_clip directory (open_clip_config.json and weights), or an embedded one."""
    path = checkpoint_path(checkpoint)
    if not (path / "open_clip_config.json").is_file():
        raise UsageError(
            f"checkpoint={checkpoint!r} has no open_clip_config.json: it is no CLIP of open_clip"
        )

    def load() -> Clip:
        import open_clip

        model, preprocess = open_clip.create_model_from_pretrained(
            f"local-dir:{path}", precision=_PRECISION[dtype], device="cpu", return_transform=True
        )
        return Clip(model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{path}"))

    return ClipEncoder(
        load,
        name=short_name(checkpoint),
        weights=directory_digest(path),
        vocabulary=Vocabulary(path),
        world=world_of(checkpoint),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def named_clip(name: str, pretrained: str, device: str, dtype: Dtype, batch_size: int) -> ClipEncoder:
    """A CLIP of open_clip by the name of its architecture (ViT-B-16) and its tag, or a file of weights."""
    import open_clip

    if name not in open_clip.list_models():
        raise UsageError(f"name={name!r} is no model of open_clip; python -c 'import open_clip;"
                         " print(open_clip.list_models())' lists them")  # fmt: skip
    tags = open_clip.list_pretrained_tags_by_model(name)
    file = Path(pretrained)
    if not file.is_file() and pretrained not in tags:
        raise UsageError(f"pretrained={pretrained!r} is no file, and no tag of {name}: {', '.join(tags)}")
    settings = _preprocessing(name, pretrained, tags)

    def load() -> Clip:
        try:
            model, preprocess = open_clip.create_model_from_pretrained(
                name,
                pretrained,
                precision=_PRECISION[dtype],
                device="cpu",
                return_transform=True,
                weights_only=True,
                **settings,
            )
        except Exception as error:  # of the hub's client, of pickle, or of weights that do not fit
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"pretrained={pretrained!r} of {name} could not be had: {reason}") from error
        return Clip(model.eval(), preprocess, open_clip.get_tokenizer(name))

    known = open_clip.get_pretrained_cfg(name, pretrained) if pretrained in tags else None
    return ClipEncoder(
        load,
        name=f"{name} {short_name(pretrained)}",
        weights=digest({"name": name, "weights": known or content_digest(file), "preprocessing": settings}),
        vocabulary=Vocabulary(None),
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _preprocessing(name: str, pretrained: str, tags: Sequence[str]) -> dict[str, Any]:
    """For a file of weights that of the architecture's published weights; tags bring their own."""
    if not Path(pretrained).is_file() or not tags:
        return {}
    import open_clip

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
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()


def _joined(parts: list[Tensor]) -> Float[np.ndarray, "rows dim"]:
    import torch

    return torch.cat(parts).numpy()
