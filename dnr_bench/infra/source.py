"""Names for code: what an item was computed by belongs into its key, so that changed code computes anew.

Of code that people edit the source counts, without comments and docstrings, and that of what it imports; of
installed libraries the version and the modules that define what is used.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from inspect import isfunction
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TypeVar
from weakref import ref

#: Rooms of this package that carry values and settings around and compute none of them.
_CARRIERS = ("app", "data", "infra", "outputs", "protocols", "results", "session")
_OWN = __name__.partition(".")[0]
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
#: Longer collections are data.
_MOST_PARTS = 1000

_WITH_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

T = TypeVar("T")
Kind = type | FunctionType
_known: dict[int, tuple[ref[object], list[Kind]]] = {}
_inside_of: dict[int, tuple[ref[object], list[object]]] = {}


def code_of(stage: str, *parts: object) -> str:
    """SHA-256 over the code of a stage and of the parts that it uses.

    Args:
        stage: the name of its module.
        parts: objects, with the objects that they consist of. Of each the module that defines its class
            counts, with the modules of the same project that this one imports; of a network all its layers'.
    """
    of_stage = _file(sys.modules.get(stage))
    found = set(_files_of(of_stage, stage)) if of_stage else set()
    names: set[str] = set()
    for kind in (kind for part in parts for kind in _kinds_of(part)):
        module, file = kind.__module__, _file_of(kind)
        if file is None:
            names.add(f"{kind.__qualname__} {_bytecode(kind)}")
        elif _is_library(file, module):
            library = module.partition(".")[0]
            version = getattr(sys.modules.get(library), "__version__", "")
            names.add(f"{module} {version} {_content(file)}")
        else:
            found.update(_files_of(file, module))
    code = sorted(f"{name} {_parsed(file)[0]}" for name, file in found)
    return sha256("\n".join([*code, *sorted(names)]).encode()).hexdigest()


def _kinds_of(part: object) -> list[Kind]:
    """The kinds of a part as it was first seen: what it adds to itself while it works is not its code."""
    return _as_first_seen(part, _known, _kinds)


def _as_first_seen(part: object, memory: dict[int, tuple[ref[object], T]], look: Callable[[object], T]) -> T:
    """What `look` found when it first saw an object, for as long as the object lives."""
    number = id(part)
    if number in memory and memory[number][0]() is part:
        return memory[number][1]
    found = look(part)
    with suppress(TypeError):  # what cannot be referred to weakly, as a collection, is looked at anew
        memory[number] = ref(part, lambda _: memory.pop(number, None)), found
    return found


def _kinds(start: object) -> list[Kind]:
    """The classes and functions of an object and of what it consists of."""
    found: dict[int, Kind] = {}
    seen: dict[int, object] = {}  # holds what is looked at, so that no id is used twice
    waiting = [start]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, type | ModuleType):
            continue
        seen[id(part)] = part
        if isfunction(part):
            found[id(part)] = part
            waiting += [cell.cell_contents for cell in part.__closure__ or () if _is_filled(cell)]
        elif isinstance(part, Mapping | list | tuple):
            items = list(part.values()) if isinstance(part, Mapping) else part
            waiting += items if len(items) <= _MOST_PARTS else []
        else:
            kinds = [kind for kind in type(part).__mro__ if _counts(kind)]
            found |= {id(kind): kind for kind in kinds}
            if kinds:
                inside = _as_first_seen(part, _inside_of, _parts_of)  # it may have worked since
                waiting += inside
    return [kind for kind in found.values() if _counts(kind)]


def _counts(kind: Kind) -> bool:
    """Whether values may depend on it: nothing that Python itself brings, and no carrier."""
    file = _file_of(kind)
    if file is None:
        return bool(_functions(kind))
    return not _carries(kind.__module__) and (_is_installed(file) or not file.is_relative_to(_STANDARD))


def _parts_of(part: object) -> list[object]:
    """What an object consists of; nothing of longer collections, which are data."""
    found = list(_inside(part).values())
    return found if len(found) <= _MOST_PARTS else []


def _inside(part: object) -> Mapping[str, object]:
    """What an object consists of; of a library's objects only the layers of networks."""
    file = _file_of(type(part))
    if file is not None and _is_library(file, type(part).__module__):
        layers: Mapping[str, object] = getattr(part, "_modules", {})
        return layers
    return getattr(part, "__dict__", {})


def _is_filled(cell: object) -> bool:
    try:
        return cell.cell_contents is not None  # type: ignore[attr-defined]
    except ValueError:
        return False


def _files_of(start: Path, name: str) -> frozenset[tuple[str, Path]]:
    """The file of a module, and those of the same project that it imports, directly or not, by name."""
    root = start.parents[name.count(".") + (start.name == "__init__.py")]
    only = f"{name.partition('.')[0]}." if _is_installed(start) else ""
    found: dict[str, Path] = {}
    waiting = {name: start}
    while waiting:
        module, file = waiting.popitem()
        found[module] = file
        for imported in _parsed(file)[1]:
            absolute = _absolute(imported, module, file)
            if absolute not in found and absolute.startswith(only) and not _carries(absolute):
                path = root.joinpath(*absolute.split("."))
                options = (path.with_suffix(".py"), path / "__init__.py")
                if there := next((option for option in options if option.is_file()), None):
                    waiting[absolute] = there
    return frozenset((module, file) for module, file in found.items())


def _absolute(imported: str, module: str, file: Path) -> str:
    level = len(imported) - len(imported.lstrip("."))
    if not level:
        return imported
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *imported.lstrip(".").split(".")]).rstrip(".")


def _carries(name: str) -> bool:
    top, _, rest = name.partition(".")
    return top == _OWN and (not rest or rest.partition(".")[0] in _CARRIERS)


def _parsed(file: Path) -> tuple[str, frozenset[str]]:
    """The digest of a file's code, and the names of the modules that it may import."""
    found = file.stat()
    return _parsed_as(file, found.st_mtime_ns, found.st_size)


@cache
def _parsed_as(file: Path, modified: int, size: int) -> tuple[str, frozenset[str]]:
    tree = ast.parse(_text(file))
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            dot = "." if node.module else ""
            imports |= {module, *(f"{module}{dot}{alias.name}" for alias in node.names)}
        elif isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return sha256(ast.dump(tree).encode()).hexdigest(), frozenset(imports)


def _text(file: Path) -> bytes:
    return file.read_bytes()


def _file(module: ModuleType | None) -> Path | None:
    """The source of a module; None where it has none (a notebook, C)."""
    name = getattr(module, "__file__", None)
    return Path(name).resolve() if name and name.endswith(".py") else None


def _file_of(kind: Kind) -> Path | None:
    return _file(sys.modules.get(kind.__module__))


def _is_library(file: Path, module: str) -> bool:
    """Whether a version names the code: it is installed, and no part of this project."""
    return _is_installed(file) and not module.startswith(f"{_OWN}.")


@cache
def _is_installed(file: Path) -> bool:
    """Whether pip or the like put it there: whole libraries are not read for what one class may call."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    return any(_holds_libraries(folder) for folder in list(file.parents)[:-1])


@cache
def _holds_libraries(folder: Path) -> bool:
    return next(folder.glob("*.dist-info"), None) is not None


@cache
def _content(file: Path) -> str:
    return sha256(_text(file)).hexdigest()


def _bytecode(kind: Kind) -> str:
    """The digest of what Python runs, for code without a file."""
    return sha256("".join(sorted(_instructions(f.__code__) for f in _functions(kind))).encode()).hexdigest()


def _functions(kind: Kind) -> list[FunctionType]:
    return [kind] if isfunction(kind) else [f for f in vars(kind).values() if isfunction(f)]


def _instructions(code: CodeType) -> str:
    inner: Iterator[str] = (
        _instructions(const) if isinstance(const, CodeType) else repr(const) for const in code.co_consts
    )
    return f"{code.co_name}{code.co_code.hex()}{code.co_names}{''.join(inner)}"
