"""Draws scenes of the shapes world: one textured shape on a background of another color."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dnr_bench.shapes.concepts import BACKGROUNDS, COLORS, FACETS, NOT, SHAPES, Concept

SIZE = 64
#: The name of this world in the ids of its images.
WORLD = "shapes-v1"

#: The radius of the smallest and of the largest object, in pixels.
SMALLEST, LARGEST = 13.0, 25.0

_SUPERSAMPLING = 4
_RGB = {
    "red": (215, 35, 35),
    "orange": (250, 140, 20),
    "yellow": (245, 225, 45),
    "green": (40, 155, 60),
    "blue": (40, 75, 205),
    "purple": (130, 45, 170),
    "pink": (250, 150, 195),
    "white": (240, 240, 240),
}
_DARK = 0.4  # second tone of a texture, as a share of the first
_JITTER = 10.0  # of a color's channels, in 0..255
_NOISE = 5.0  # standard deviation per pixel, in 0..255


@dataclass(frozen=True)
class Scene:
    """One image before it is drawn; lengths in pixels of the 64x64 image, angles in radians."""

    color: str
    texture: str
    shape: str
    background: str
    x: float
    y: float
    radius: float
    angle: float
    phase: tuple[float, float]
    noise_seed: int

    @property
    def attributes(self) -> frozenset[str]:
        """The four attributes that hold in this image."""
        return frozenset((self.color, self.texture, self.shape, self.background))


def sample_scene(
    rng: np.random.Generator,
    concept: Concept | None = None,
    shapes: tuple[str, ...] = SHAPES,
) -> Scene:
    """A random scene that shows `concept`, and is uniform in everything that the concept leaves open.

    The object never has the background's color, unless the concept asks for it.
    """
    alternatives = concept.ordered() if concept else []
    wanted = alternatives[int(rng.integers(len(alternatives)))] if alternatives else []
    chosen: dict[str, str] = {}
    for facet, values in {**FACETS, "shape": shapes}.items():
        named = [value for value in wanted if value in FACETS[facet]]
        options = named or _open_values(facet, values, chosen, wanted)
        chosen[facet] = options[int(rng.integers(len(options)))]
    radius = float(rng.uniform(SMALLEST, LARGEST))
    nearest = margin(radius)
    return Scene(
        **chosen,
        x=float(rng.uniform(nearest, SIZE - nearest)),
        y=float(rng.uniform(nearest, SIZE - nearest)),
        radius=radius,
        angle=float(rng.uniform(0, 2 * np.pi)),
        phase=(float(rng.uniform()), float(rng.uniform())),
        noise_seed=int(rng.integers(2**31)),
    )


def margin(radius: float) -> float:
    """How near to the image's edge the center of an object of this radius may lie, in pixels."""
    return 0.8 * radius


def _open_values(
    facet: str, values: tuple[str, ...], chosen: Mapping[str, str], wanted: list[str]
) -> tuple[str, ...]:
    if facet == "color":
        taken = {value.removesuffix(" background") for value in wanted if value in BACKGROUNDS}
    elif facet == "background":
        taken = {f"{chosen['color']} background"}
    else:
        taken = set()
    left = tuple(value for value in values if value not in taken and NOT + value not in wanted)
    return left or values  # a label may rule out everything


def render(scene: Scene) -> UInt8[np.ndarray, "64 64 3"]:
    """The scene's image in RGB: anti-aliased, with light noise, the same bytes for the same scene."""
    rng = np.random.default_rng(scene.noise_seed)
    coverage = _coverage(scene)[..., None]
    light = _texture(scene)[..., None]
    foreground = _tone(scene.color, rng) * (_DARK + (1 - _DARK) * light)
    background = _tone(scene.background.removesuffix(" background"), rng)
    image = coverage * foreground + (1 - coverage) * background
    image += rng.standard_normal(image.shape, dtype=np.float32) * _NOISE
    pixels: np.ndarray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels


def object_mask(scene: Scene) -> Bool[np.ndarray, "64 64"]:
    """The pixels of the object; the rest is background."""
    return _coverage(scene) > 0.5


def concept_masks(scene: Scene) -> dict[str, Bool[np.ndarray, "64 64"]]:
    """For each attribute of the scene the pixels that show it (as in Broden)."""
    mask = object_mask(scene)
    return {
        attribute: ~mask if attribute == scene.background else mask for attribute in sorted(scene.attributes)
    }


def _tone(color: str, rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    jitter = rng.uniform(-_JITTER, _JITTER, 3)
    return np.asarray(_RGB[color], np.float32) + jitter.astype(np.float32)


def _coverage(scene: Scene) -> Float[np.ndarray, "64 64"]:
    """The share of each pixel that the object covers, 0..1."""
    canvas = np.zeros((SIZE * _SUPERSAMPLING, SIZE * _SUPERSAMPLING), np.uint8)
    cos, sin = np.cos(scene.angle), np.sin(scene.angle)
    rotation = np.asarray([[cos, sin], [-sin, cos]])
    polygons = []
    for outline in _outlines()[scene.shape]:
        points = (outline @ rotation) * scene.radius + (scene.x, scene.y)
        polygons.append(np.rint(points * _SUPERSAMPLING * 16).astype(np.int32))
    cv2.fillPoly(canvas, polygons, color=255, shift=4)  # holes by the even-odd rule
    small = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    coverage: np.ndarray = small.astype(np.float32) / 255
    return coverage


def _texture(scene: Scene) -> Float[np.ndarray, "64 64"]:
    """1 where the object has its full color, 0 where its dark tone, in the object's own axes."""
    if scene.texture == "solid":
        return np.ones((SIZE, SIZE), np.float32)
    grid = np.arange(SIZE, dtype=np.float32) + 0.5
    x, y = np.meshgrid(grid - scene.x, grid - scene.y)
    cos, sin = np.cos(scene.angle), np.sin(scene.angle)
    period = 8.0
    u = (cos * x + sin * y) / period + scene.phase[0]
    v = (-sin * x + cos * y) / period + scene.phase[1]
    if scene.texture == "striped":
        return _edge(np.sin(2 * np.pi * u))
    if scene.texture == "checkered":
        return _edge(np.sin(np.pi * u * 1.1) * np.sin(np.pi * v * 1.1) * 2)
    distance = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
    return _edge((distance - 0.3) * 8)


def _edge(value: Float[np.ndarray, "64 64"]) -> Float[np.ndarray, "64 64"]:
    """A step at 0, softened over about a pixel."""
    softened: np.ndarray = np.clip(value * 2 + 0.5, 0, 1).astype(np.float32)
    return softened


@cache
def _outlines() -> dict[str, tuple[np.ndarray, ...]]:
    """Each shape as polygons around the origin with a circumscribed radius of about 1."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    corners = np.deg2rad([45, 135, 225, 315])
    spikes = np.deg2rad(np.arange(10) * 36 - 90)
    reach = np.where(np.arange(10) % 2 == 0, 1.1, 0.45)
    arm, end = 0.3, 1.0
    return {
        "circle": (circle * 0.92,),
        "square": (np.stack([np.cos(corners), np.sin(corners)], 1) * 1.12,),
        "triangle": (np.stack([np.cos(turn[6::24]), np.sin(turn[6::24])], 1) * 1.15,),
        "star": (np.stack([np.cos(spikes), np.sin(spikes)], 1) * reach[:, None],),
        "cross": (
            np.asarray(
                [
                    (-arm, -end), (arm, -end), (arm, -arm), (end, -arm), (end, arm), (arm, arm),
                    (arm, end), (-arm, end), (-arm, arm), (-end, arm), (-end, -arm), (-arm, -arm),
                ]
            ),
        ),
        "ring": (circle, circle[::-1] * 0.52),
        "crescent": (_crescent(),),
        "heart": (_heart(),),
    }  # fmt: skip


def _crescent() -> np.ndarray:
    outer = np.linspace(np.deg2rad(50), np.deg2rad(310), 60)
    inner = np.linspace(np.deg2rad(282), np.deg2rad(78), 50)
    arc = np.stack([np.cos(outer), np.sin(outer)], 1)
    tip = arc[0]
    bite_radius = tip[1] / np.sin(inner[-1])
    bite_x = tip[0] - bite_radius * np.cos(inner[-1])
    bite = np.stack([bite_x + bite_radius * np.cos(inner), bite_radius * np.sin(inner)], 1)
    return np.concatenate([arc, bite]) * 1.1 + (0.15, 0)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], 1) / 15.5


def color_values() -> dict[str, tuple[int, int, int]]:
    """The mean RGB value of each color (for pictures and documentation)."""
    return {color: _RGB[color] for color in COLORS}
