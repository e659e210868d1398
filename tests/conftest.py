"""What several test files share: small real parts, built once, and a store that all of them fill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from beartype.roar import BeartypeDecorHintPep585DeprecationWarning
from jaxtyping import install_import_hook
from omegaconf import DictConfig, OmegaConf

from tests.helpers import type_checks  # noqa: F401  (imported before the hook that uses it)

#: Where arrays and typed values cross boundaries. Decorating the rest (rendering, printing) would cost more
#: time than it finds.
_CHECKED = (
    "data", "statistics", "stages", "session", "protocols", "targets", "captioners", "summarizers",
    "generators", "encoders", "scorers", "methods", "presences",
)  # fmt: skip
# tests check types and shapes while they run; what users import does not
install_import_hook(
    [*(f"dnr_bench.{name}" for name in _CHECKED), "evaluators"], "tests.helpers.type_checks.check"
)

from dnr_bench.app.composition import load_config  # noqa: E402
from dnr_bench.app.configuration import build_run  # noqa: E402
from dnr_bench.app.main import main, prepare_process  # noqa: E402
from dnr_bench.app.parts import PartBuilder  # noqa: E402
from dnr_bench.app.run import RunConfig, run  # noqa: E402
from dnr_bench.results.schema import RunResult  # noqa: E402
from tests.helpers.small_files import all_files  # noqa: E402
from tests.helpers.small_models import SmallModels  # noqa: E402

ROOT = Path(__file__).parent.parent

#: Eleven units of every kind, few images, drawn by the oracle: a whole run in seconds.
SMALL = (
    "generator=renderer",
    "neurons.units=[0,9,13,20,27,35,40,50,53,60,62]",
    "neurons.layers=[concepts]",
    "probe.n_images=300",
    "images_per_concept=4",
)


def pytest_configure(config: pytest.Config) -> None:
    prepare_process()
    # OmegaConf's DictConfig inherits from typing.MutableMapping, which beartype warns of
    name = f"{BeartypeDecorHintPep585DeprecationWarning.__module__}.BeartypeDecorHintPep585DeprecationWarning"
    config.addinivalue_line("filterwarnings", f"ignore::{name}")


#: Files with tests that take half a minute each: where they came last, one process would wait for the other.
_LONG = ("test_wheel", "test_docs", "test_models", "test_sweeps", "test_own_network", "test_pipeline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests compute is named by its content: they share it, also across processes."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-store"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    """Small checkpoints of the real classes."""
    return SmallModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file of every kind that members of conf/ read."""
    return all_files(tmp_path_factory.mktemp("files"))


#: Groups whose parts keep nothing of what they were asked, so that tests can share them.
_SHARED_GROUPS = ("target", "captioner", "encoder", "sentence_encoder", "bert_score")
_shared_parts: dict[str, object] = {}


def shared_parts(config: DictConfig) -> dict[str, object]:
    """Networks and encoders of a config, each loaded once per process for all tests that ask for the same."""
    found = {}
    for group in _SHARED_GROUPS:
        node = config[group]
        if "chat" in node or "factory" in node:  # what was asked is counted; code of a test's own may differ
            continue
        settings = OmegaConf.to_container(node, resolve=True)
        assert isinstance(settings, dict)
        key = f"{group} {[item for item in settings.items() if item[0] != 'store']}"  # it is only noted there
        if key not in _shared_parts:
            _shared_parts[key] = PartBuilder(config).part(group, object)
        found[group] = _shared_parts[key]
    return found


def built_run(*overrides: str) -> RunConfig:
    """A run of these settings, with networks that other tests have loaded."""
    config = load_config(*overrides)
    return build_run(config, given=shared_parts(config))


@pytest.fixture
def small_run(tmp_path: Path, shared_store: Path) -> Callable[..., RunConfig]:
    """Builds the configuration of a small run; `store`: a new one in this test's folder."""

    def build(*overrides: str, store: str | None = None) -> RunConfig:
        folder = tmp_path / store if store else shared_store
        return built_run(*SMALL, f"paths.store={folder}", *overrides)

    return build


@pytest.fixture
def label_run(tmp_path: Path, shared_store: Path) -> Callable[..., RunResult]:
    """Runs the evaluators on labels of units of `concepts`, which no method has to find."""

    def call(labels: Mapping[int, str], *overrides: str) -> RunResult:
        rows = "".join(f'concepts,{unit},"{label}"\n' for unit, label in labels.items())
        (tmp_path / "labels.csv").write_text(f"layer,unit,label\n{rows}")
        given = ["method=precomputed", f"method.path={tmp_path / 'labels.csv'}", "neurons.layers=[concepts]"]
        store = f"paths.store={shared_store}"
        return run(built_run("generator=renderer", *given, store, *overrides))

    return call


Completed = subprocess.CompletedProcess[str]
CommandLine = Callable[[Sequence[str]], Completed]


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[str]], Completed]:
    """`dnr-bench` in this test's folder, within this process: starting another one takes seconds."""
    monkeypatch.chdir(tmp_path)

    def call(arguments: Sequence[str]) -> Completed:
        monkeypatch.setattr("sys.argv", ["dnr-bench", *arguments])
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as stop:  # --help ends so
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(list(arguments), code, shown.out, shown.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Callable[[Sequence[str]], Completed]:
    """`python -m dnr_bench` in this test's folder, as a process of its own."""

    def call(arguments: Sequence[str]) -> Completed:
        return subprocess.run(
            [sys.executable, "-m", "dnr_bench", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
