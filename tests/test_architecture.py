"""The layers of the package: each imports only those above it; classes and functions stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: Each layer imports only those above it (docs/architecture.md). The parts are one layer.
LAYERS = (
    ("data",),
    ("infra",),
    ("statistics",),
    ("protocols",),
    ("stages",),
    ("session",),
    (
        "targets", "probes", "chats", "captioners", "summarizers", "generators", "encoders", "scorers",
        "presences", "proposals", "executors",
    ),
    ("methods",),
    ("results",),
    ("outputs",),
    ("app",),
    ("shapes",),
)  # fmt: skip
PARTS = set(LAYERS[6]) | {"methods"}
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}
FILES = sorted((ROOT / "dnr_bench").rglob("*.py"))
ALL_FILES = [*FILES, *sorted((ROOT / "evaluators").glob("*.py")), *sorted((ROOT / "sweeps").glob("*.py"))]
#: The face of the package hands names on, and the command line starts it.
FACES = {"__init__.py", "__main__.py"}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, within functions and for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [p for p in FILES if name_of(p).count("/") > 1 or p.name not in FACES], ids=name_of
)
def test_each_layer_imports_only_those_above_it(path: Path) -> None:
    mine = path.relative_to(ROOT / "dnr_bench").parts[0].removesuffix(".py")
    for module in imported(path):
        top, _, rest = module.partition(".")
        assert top not in ("evaluators", "sweeps"), f"{module}: the package knows neither"
        if top == "dnr_bench" and rest:
            layer = rest.partition(".")[0]
            assert FLOOR[layer] <= FLOOR[mine], f"{module} is below {mine}"


def test_evaluators_do_not_look_at_the_command_line_or_at_studies() -> None:
    assert any((ROOT / "evaluators").glob("*.py"))
    for path in (ROOT / "evaluators").glob("*.py"):
        assert not [
            m for m in imported(path) if m.startswith(("dnr_bench.app", "dnr_bench.outputs", "sweeps"))
        ]


@pytest.mark.parametrize(("library", "home"), [("mlflow", "dnr_bench/outputs/mlflow"), ("optuna", "sweeps")])
def test_one_place_imports(library: str, home: str) -> None:
    users = [name_of(p) for p in ALL_FILES if any(m.partition(".")[0] == library for m in imported(p))]
    assert users
    assert all(user.startswith(home) for user in users), users


def test_methods_know_nothing_of_each_other() -> None:
    folder = ROOT / "dnr_bench" / "methods"
    shared = {"__init__", "labeling", "similarities"}
    rivals = {path.stem for path in folder.iterdir() if not path.stem.startswith("__")} - shared
    for path in (ROOT / "dnr_bench" / "methods").rglob("*.py"):
        others = [name for name in (*rivals, "describe_and_dissect") if name not in str(path)]
        assert not [m for m in imported(path) if any(f"methods.{name}" in m for name in others)], path


def test_the_root_holds_ten_rooms_of_plumbing_at_most() -> None:
    found = [
        path.name
        for path in (ROOT / "dnr_bench").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed", "conf") and path.name not in PARTS
    ]
    assert len(found) - ("shapes" in found) <= 10, found


def test_functions_have_at_most_60_lines_and_classes_200() -> None:
    for path in ALL_FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                most = 200 if isinstance(node, ast.ClassDef) else 60
                assert lines <= most, f"{name_of(path)}: {node.name} has {lines} lines"


def public_annotations(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The annotations of public functions, methods and fields."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    for of_class in classes:
        for node in of_class.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id, node.annotation
            elif isinstance(node, ast.FunctionDef):
                functions.append(node)
    for function in functions:
        if not function.name.startswith("_"):
            given = [a.annotation for a in (*function.args.args, *function.args.kwonlyargs)]
            for annotation in (*given, function.returns):
                if annotation is not None:
                    yield function.name, annotation


def test_no_public_boundary_is_crossed_by_nameless_dictionaries() -> None:
    for path in ALL_FILES:
        for name, annotation in public_annotations(ast.parse(path.read_text())):
            text = ast.unparse(annotation)
            assert not re.search(r"dict\[str, Any\]", text), f"{name_of(path)}: {name}: {text}"


def test_no_core_module_names_an_evaluators_metric() -> None:
    groups = {path.stem for path in (ROOT / "conf" / "evaluator").glob("*.yaml")} - {"refinement", "held_out"}
    assert FILES
    for path in FILES:
        if "shapes" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found = re.fullmatch(r"(\w+)\.(?!json|html|md)\w+", node.value)
                    assert not (found and found[1] in groups), f"{name_of(path)}: {node.value}"


def test_importing_the_package_changes_nothing_in_the_process() -> None:
    code = (
        "import os, sys, warnings\n"
        "before = dict(os.environ), list(warnings.filters), list(sys.meta_path), list(sys.path)\n"
        "import dnr_bench\n"
        "assert not {'torch', 'hydra', 'mlflow'} & sys.modules.keys()\n"
        "assert dnr_bench.RunResult and dnr_bench.describe\n"
        "import dnr_bench.outputs.terminal.console\n"
        "ours = [f for f in warnings.filters if 'dnr_bench' in str(f)]\n"
        "hooks = [h for h in sys.meta_path if 'jaxtyping' in type(h).__module__]\n"
        "assert not ours and not hooks and 'mlflow' not in sys.modules\n"
        "changed = {k for k in os.environ if os.environ[k] != before[0].get(k)}\n"
        "assert not [k for k in changed if k.startswith(('MLFLOW', 'DO_NOT', 'HYDRA', 'DNR'))], changed\n"
        "assert list(sys.path) == before[3]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
