"""Peak memory of one run, measured in a process of its own: python -m tests.bench.memory KIND N FOLDER."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.infra.store import Store
from dnr_bench.outputs.pages.run import write_report
from dnr_bench.outputs.pictures import take_pictures
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing
from tests.bench.pictures import SmoothPictures, jpegs

_SEEN = Preprocessing(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _network(units: int) -> HookedTarget:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, units, 3, 2, 1), nn.ReLU())
    return HookedTarget(layers, _SEEN, batch_size=32)


def neurons(n: int, folder: Path, size: int = 512, images: int = 2) -> None:
    """A run of n neurons, each with five concepts of its own, and its page."""
    lines = [f"2,{unit},thing {unit} of kind {kind}" for unit in range(n) for kind in range(5)]
    (folder / "concepts.csv").write_text("layer,unit,concept\n" + "\n".join(lines) + "\n")
    words = [
        "captioner=dataset", "summarizer=captions", "n_candidates=1", f"images_per_concept={images}",
        "probe.n_images=300", f"user_concepts={folder / 'concepts.csv'}", "evaluator=[]", "scorer=semantic",
        "neurons.layers=['2']", f"paths.store={folder / 'store'}",
    ]  # fmt: skip
    store = (
        Store(folder / "store", "none")
        if "images" in Store.__init__.__annotations__
        else Store(folder / "store")
    )
    given = {"target": _network(n), "generator": SmoothPictures(size), "store": store}
    config = build_run(load_config(*words), given=given)
    session = config.session()
    result = run(config, session)
    result.write(folder)
    write_report(result, take_pictures(result, session, folder), folder)


def probing_images(n: int, folder: Path) -> None:
    """Activations of n probing images."""
    words = [
        "evaluator=[]",
        f"probe.n_images={n}",
        f"paths.store={folder / 'store'}",
        "neurons.layers=[concepts]",
    ]
    session = build_run(load_config(*words)).session()
    session.activations("concepts")


def large_pictures(n: int, folder: Path) -> None:
    """Activations, exemplars, their crops and captions of n pictures of twelve megapixels."""
    words = [
        "evaluator=[]", "probe=folder", f"probe.path={folder.parent / 'large'}", "neurons.layers=[concepts]",
        f"paths.store={folder / 'store'}", "neurons.units=0-9",
    ]  # fmt: skip
    session = build_run(load_config(*words)).session()
    found = session.exemplars([])
    config = build_run(load_config(*words))
    found = session.exemplars(config.neurons)
    session.exemplar_vectors(list(found))


KINDS: dict[str, Callable[[int, Path], None]] = {
    "neurons": neurons,
    "images": probing_images,
    "large": large_pictures,
}


def peak() -> float:
    """The largest memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage gives there counts the parent's memory, too
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run one kind and print what it took."""
    kind, n, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "large":
        jpegs(folder.parent / "large", n, 3000, 4000)
        small = jpegs(folder.parent / "first", 4, 64, 64)
        words = ["evaluator=[]", "probe=folder", f"probe.path={small}", "neurons.layers=[concepts]",
                 f"paths.store={folder / 'warm'}"]  # fmt: skip
        warm = build_run(load_config(*words))
        warm.session().exemplar_vectors(warm.neurons)  # models and libraries are there before
    before, start = peak(), time.perf_counter()
    KINDS[kind](n, folder)
    print(json.dumps({"peak": peak(), "before": before, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
