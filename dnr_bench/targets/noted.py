"""Networks that are loaded when they are to run: what else a run asks of them is noted in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, wraps
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import Image
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.shipped import embedded_path
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from dnr_bench.targets.hooked import HookedTarget

#: Settings that name files or folders.
_FILES = ("checkpoint", "classes")
#: Libraries that networks are made with.
_LIBRARIES = ("torch", "torchvision", "timm")


class NotedTarget:
    """A target that `build(**settings)` makes when its network is to run.

    Its layers, the names of their units and its preprocessing are known without it from the second time on.
    They are noted under the settings, the state of the files that these name, the code and the versions of
    libraries.

    Raises:
        RunError: on loading, where the weights are others than those that were noted (those of a name on a
            hub were changed); the notes are mended.
    """

    def __init__(
        self, build: Callable[..., HookedTarget], settings: Mapping[str, object], store: Store
    ) -> None:
        self.build, self.settings, self.store = build, dict(settings), store
        self._hooked = OnDemand(lambda: build(**settings))
        versions = {name: _version(name) for name in _LIBRARIES}
        self._key = {
            "code": code_of(__name__, build),
            "settings": self.settings,
            "files": {name: _state(settings[name]) for name in _FILES if name in settings},
            "versions": versions,
        }
        (self._facts,) = store.fill("targets", [self._key], lambda _: [self._noted()])
        self.fingerprint = digest({"target": self._facts["fingerprint"], "versions": versions})
        self._checked = OnDemand(self._loaded)

    @property
    def hooked(self) -> HookedTarget:
        """The target itself, loaded now."""
        return self._checked()

    @property
    def model(self) -> Any:
        """The network itself."""
        return self.hooked.model

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return Preprocessing(**self._facts["preprocessing"])

    def layers(self) -> list[Layer]:
        """Every named module whose output is one tensor per image."""
        return [Layer(**layer) for layer in self._facts["layers"]]

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """The true names of a layer's units, where they are known."""
        names: Sequence[str] | None = self._facts["names"].get(layer)
        return names

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of an image of this size that reaches the network: left, top, right, bottom."""
        return self.preprocessing.seen_box(height, width)

    def run(self, images: Sequence[Image], layers: Sequence[str]) -> dict[str, Float[np.ndarray, "images _"]]:
        """Pooled activations [images, units] of each layer, all from one forward pass per batch."""
        return self._checked().run(images, layers)

    def stream(
        self, images: Sequence[Image], layers: Sequence[str], prunings: Sequence[Pruning] = ({},)
    ) -> Iterator[list[dict[str, Float[np.ndarray, "batch _"]]]]:
        """Of each batch the same for each pruning."""
        return self._checked().stream(images, layers, prunings)

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "map_height map_width"]]:
        """The map of each (image index, unit)."""
        return self._checked().maps(images, layer, pairs)

    def moved(
        self,
        images: Sequence[Image],
        layer: str,
        units: Sequence[int],
        shifts: Float[np.ndarray, "images units"],
        read: str,
    ) -> Iterator[Float[np.ndarray, "units batch outputs"]]:
        """Of each batch the pooled output of the layer `read` when one unit after the other is moved."""
        return self._checked().moved(images, layer, units, shifts, read)

    def _noted(self) -> dict[str, Any]:
        hooked = self._hooked()
        return {
            "fingerprint": hooked.fingerprint,
            "layers": [vars(layer) for layer in hooked.layers()],
            "names": {layer: list(names) for layer, names in hooked.names.items()},
            "preprocessing": hooked.preprocessing.key,
        }

    def _loaded(self) -> HookedTarget:
        hooked = self._hooked()
        if hooked.fingerprint != self._facts["fingerprint"]:
            self.store.forget("targets", [self._key])
            raise RunError("the weights of the target have changed since they were noted: run this again")
        return hooked


def noted(load: Callable[..., HookedTarget]) -> Callable[..., NotedTarget]:
    """Of a function that loads a network one that takes `store`, too, and returns a `NotedTarget`.

    What `load` checks of its arguments it checks once: nothing is noted of what it refuses.
    """
    shape = signature(load)

    @wraps(load)
    def target(*, store: Store, **settings: object) -> NotedTarget:
        given = shape.bind(**settings)
        given.apply_defaults()
        return NotedTarget(load, given.arguments, store)

    # the config's values are checked against the arguments of both
    added = Parameter("store", Parameter.KEYWORD_ONLY, annotation=Store)
    target.__annotations__ = {**load.__annotations__, "store": Store, "return": NotedTarget}
    target.__signature__ = shape.replace(parameters=[*shape.parameters.values(), added])  # type: ignore[attr-defined]
    return target


def _state(value: object) -> object:
    """The size and time of the file that a setting names, or of all files of its folder."""
    if not isinstance(value, str):
        return None
    path = embedded_path(value)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return [list(state) for state in states] or None


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
