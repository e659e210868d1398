"""What an item was computed by is part of its name: changed code computes anew, changed comments do not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra import source
from dnr_bench.infra.source import code_of
from dnr_bench.results.schema import RunResult
from tests.conftest import ROOT, built_run

STAGE = "dnr_bench.stages.embeddings"
NETWORK = '''
"""A network."""
import torch
from helpers_of_network import shift


class Base(torch.nn.Module):
    def forward(self, x):
        return shift(x)  # moved


class Net(Base):
    pass


def build():
    return torch.nn.Sequential(torch.nn.Flatten(), Net())
'''
HELPERS = "def shift(x):\n    return x + 1\n"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Within a process a source counts as it was first read."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    source._parsed_as.cache_clear()


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The code of a network whose module, or the one that it imports, was changed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(module: str = NETWORK, helpers: str = HELPERS) -> str:
        (tmp_path / "network_of_a_user.py").write_text(module)
        (tmp_path / "helpers_of_network.py").write_text(helpers)
        for name in ("network_of_a_user", "helpers_of_network"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        _forget()
        return code_of(STAGE, importlib.import_module("network_of_a_user").build())

    return code


def test_a_networks_code_counts_wherever_it_stands(network: Callable[..., str]) -> None:
    before = network()
    assert network() == before
    assert network(NETWORK.replace("return shift(x)", "return shift(x) * 2")) != before
    assert network(helpers=HELPERS.replace("+ 1", "+ 2")) != before


def test_comments_docstrings_and_lines_do_not_count(network: Callable[..., str]) -> None:
    before = network()
    assert network(NETWORK.replace("# moved", "# moved by one")) == before
    assert network(NETWORK.replace("A network.", "Some network.") + "\n\n# the end\n") == before
    assert network(helpers=f"# shifts\n{HELPERS}") == before


def test_code_without_a_file_counts_as_python_runs_it() -> None:
    def code(factor: int) -> str:
        space = {"__name__": "a_notebook", "torch": torch}
        exec(f"class Net(torch.nn.Module):\n    def forward(self, x):\n        return x * {factor}", space)
        return code_of(STAGE, space["Net"]())

    assert code(2) == code(2) != code(3)


def test_what_a_function_closes_over_counts() -> None:
    class Part:
        def __init__(self, inner: object) -> None:
            self.load = lambda: inner

    assert code_of(STAGE, Part(None)) != code_of(STAGE, Part(torch.nn.ReLU()))


def test_work_does_not_change_what_a_part_is_made_of() -> None:
    class Part:
        pass

    part = Part()
    before = code_of(STAGE, part)
    part.cache = torch.nn.ReLU()  # type: ignore[attr-defined]
    assert code_of(STAGE, part) == before


def test_nor_does_it_change_what_a_part_around_it_is_made_of() -> None:
    class Inner:
        pass

    class Outer:
        def __init__(self, inner: Inner) -> None:
            self.inner = inner

    inner = Inner()
    before = code_of(STAGE, Outer(inner))
    inner.cache = torch.nn.ReLU()  # type: ignore[attr-defined]
    assert code_of(STAGE, Outer(inner)) == before


TINY = (
    "generator=renderer", "neurons.layers=[concepts,fc]", "neurons.units=[0,27]", "probe.n_images=60",
    "images_per_concept=2", "evaluator=[planted,fc_layer]",
)  # fmt: skip


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which such a run finds everything."""
    store = tmp_path_factory.mktemp("store")
    run(_tiny(store))
    return store


def _tiny(store: Path) -> RunConfig:
    return built_run(*TINY, f"paths.store={store}")


def _with_source(monkeypatch: pytest.MonkeyPatch, path: str, added: str) -> None:
    altered, read = ROOT / path, source._text
    assert altered.is_file()
    monkeypatch.setattr(
        source, "_text", lambda file: read(file) + (added.encode() if file == altered else b"")
    )


def _misses(result: RunResult) -> dict[str, int]:
    return {name: stage.misses for name, stage in result.stages.items() if stage.misses}


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("dnr_bench/stages/activations.py", "activations"),
        ("dnr_bench/stages/exemplars.py", "exemplars"),
        ("dnr_bench/stages/embeddings.py", "text_embeddings"),
        ("dnr_bench/stages/concept_images.py", "images"),
        ("dnr_bench/methods/describe_and_dissect/concepts.py", "captions"),
        ("dnr_bench/captioners/blip.py", "captions"),
        ("dnr_bench/encoders/clip.py", "image_embeddings"),
        *(
            pytest.param(path, stage, marks=pytest.mark.slow)
            for path, stage in (
                ("dnr_bench/shapes/network.py", "activations"),
                ("dnr_bench/targets/hooked.py", "activations"),
                ("dnr_bench/targets/preprocessing.py", "activations"),
                ("dnr_bench/shapes/render.py", "activations"),
                ("dnr_bench/shapes/render.py", "images"),
                ("dnr_bench/summarizers/consensus.py", "candidates"),
                ("dnr_bench/shapes/generator.py", "images"),
                ("dnr_bench/encoders/sentences.py", "text_embeddings"),
            )
        ),
    ],
)
def test_changed_code_of_a_stage_or_part_computes_anew(
    path: str, stage: str, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_source(monkeypatch, path, f"\n_CHANGED = {stage!r}\n")
    assert stage in _misses(run(_tiny(warm)))


@pytest.mark.parametrize(
    ("path", "added"),
    [
        ("dnr_bench/stages/activations.py", "\n# a comment\n"),
        ("dnr_bench/captioners/blip.py", "\n# a comment\n"),
        ("dnr_bench/outputs/terminal/console.py", "\n_CHANGED = 1\n"),
        ("dnr_bench/infra/store.py", "\n_CHANGED = 1\n"),
        ("dnr_bench/scorers/topk.py", "\n_CHANGED = 1\n"),
        ("dnr_bench/generators/diffusion.py", "\n_CHANGED = 1\n"),
    ],
)
def test_nothing_is_computed_for_a_comment_or_code_that_takes_no_part(
    path: str, added: str, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_source(monkeypatch, path, added)
    assert _misses(run(_tiny(warm))) == {}
