"""How an image becomes a network's input, and which part of the image the network then sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, UInt8

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side (or both sides, if `squash`), cut out the center, normalize.

    As torchvision's presets for weights do it, with antialiasing.

    Lengths in pixels; `mean` and `std` of RGB values in 0..1, as torchvision's weights state them.
    """

    resize: int
    crop: int
    mean: Sequence[float]
    std: Sequence[float]
    squash: bool = False
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        check_range(1, 65536, resize=self.resize)
        if not 0 < self.crop <= self.resize:
            raise UsageError(f"crop={self.crop} must lie in 1..resize={self.resize}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UsageError("mean and std need three values each, those of std above 0")

    def seen(self, image: Image) -> UInt8[Tensor, "3 crop crop"]:
        """What the network sees of an image of any size, as bytes: small while it waits for its batch."""
        import torch
        from torchvision.transforms.v2 import functional as F

        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        size = self._resized(*image.shape[:2])
        if size != tuple(image.shape[:2]):
            tensor = F.resize(tensor, list(size), F.InterpolationMode(self.interpolation), antialias=True)
        top, left = self._corner(size)
        cropped: Tensor = F.crop(tensor, top, left, self.crop, self.crop)
        return cropped

    def normalized(
        self, seen: UInt8[Tensor, "images 3 crop crop"], dtype: torch.dtype
    ) -> Float[Tensor, "images 3 crop crop"]:
        """The network's input, on the device on which the bytes lie."""
        import torch

        mean, std = (torch.tensor(part, device=seen.device).view(3, 1, 1) for part in (self.mean, self.std))
        # in place, as new memory for each step would take most of the time
        return seen.to(torch.float32).div_(255).sub_(mean).div_(std).to(dtype)

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of an image of this size that reaches the network: left, top, right, bottom in pixels."""
        new_height, new_width = self._resized(height, width)
        top, left = self._corner((new_height, new_width))
        x, y = width / new_width, height / new_height
        return left * x, top * y, (left + self.crop) * x, (top + self.crop) * y

    @property
    def key(self) -> dict[str, object]:
        """The settings, for cache keys."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.squash:
            return self.resize, self.resize
        short, long = min(height, width), max(height, width)
        longer = int(self.resize * long / short)  # as torchvision: the longer side is cut down, not rounded
        return (self.resize, longer) if height <= width else (longer, self.resize)

    def _corner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Top and left of the center crop of a resized image, rounded as torchvision does."""
        return round((size[0] - self.crop) / 2), round((size[1] - self.crop) / 2)
