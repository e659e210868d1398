"""Corruptions of probing images at five severities, after ImageNet-C (Hendrycks and Dietterich 2019).

Noise, JPEG, contrast and pixelation use its figures; brightness is torchvision's factor, and an occlusion
is a gray square over a share of the image.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import UsageError


class NoCorruption:
    """Leaves images as they are."""

    name: str | None = None

    def apply(self, image: Image, seed: int) -> Image:
        """The image."""
        return image


class Corrupted:
    """Images changed by one `kind` of corruption at a severity of 1 (weak) to 5 (strong)."""

    def __init__(self, kind: str, severity: int) -> None:
        if kind not in _KINDS:
            raise UsageError(f"kind={kind!r} is unknown; known are {', '.join(_KINDS)}")
        if not 1 <= severity <= 5:
            raise UsageError(f"severity={severity} must lie in 1..5")
        self.name = f"{kind}{severity}"
        self.kind, self.amount = kind, _KINDS[kind][severity - 1]

    def apply(self, image: Image, seed: int) -> Image:
        """The corrupted image; what is random about it (noise, place) depends on the seed only."""
        from dnr_bench.probes.pixel_changes import changed

        return changed(image, self.kind, self.amount, seed)


#: The figures of each kind by severity.
_KINDS: Mapping[str, tuple[float, ...]] = {
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "jpeg": (25, 18, 15, 10, 7),
    "brightness": (1.3, 1.6, 1.9, 2.2, 2.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "occlusion": (0.05, 0.1, 0.2, 0.3, 0.4),
}
