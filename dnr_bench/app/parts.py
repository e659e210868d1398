"""From config nodes to objects: the one place that instantiates, with errors that name the key."""

from __future__ import annotations

import json
import math
import re
from collections import abc
from collections.abc import Callable, Mapping
from inspect import isclass, signature
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from dnr_bench.infra.errors import DnrError, UsageError
from dnr_bench.infra.shipped import CONF, config_members
from dnr_bench.infra.text_files import shortened
from dnr_bench.protocols import Chat, Metered

T = TypeVar("T")

_TARGET = "_target_"
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
#: Whole numbers are fine where numbers are asked for.
_NUMBERS = BeartypeConf(is_pep484_tower=True)


class PartBuilder:
    """Builds the parts that a config names, each top-level part once, however many others refer to it.

    A value like ${encoder} stands for the part of that group, and not for another one with its settings.
    Parts with equal settings are one, wherever they stand, but for those that ask a chat model.

    Args:
        config: the composed config.
        given: parts by group that are there already, in place of those that the config names.

    Attributes:
        built: the parts by group.
        used: the top-level keys that some part has asked for.
        within: for each group the other groups that its part consists of, directly or not.
    """

    def __init__(self, config: DictConfig, given: Mapping[str, object] | None = None) -> None:
        self.config = config
        self.built: dict[str, object] = dict(given or {})
        self.used: set[str] = set(self.built)
        self.within: dict[str, set[str]] = {}
        self._equal: dict[str, object] = {}

    def part(self, group: str, protocol: type[T]) -> T:
        """The part of a group.

        Raises:
            UsageError: a setting is wrong, or the part does not keep the protocol.
        """
        found = self._shared(group)
        if not isinstance(found, protocol):
            where = self.config[group].get(_TARGET) if group in self.config else type(found).__name__
            raise UsageError(f"{group}: {where} is not a {protocol.__name__}")
        return found

    def build(self, node: DictConfig, protocol: type[T], where: str) -> T:
        """The part that a node names; `where`: its place in the config, for messages."""
        found = self._built(node, where)
        if not isinstance(found, protocol):
            raise UsageError(f"{where}: {node.get(_TARGET)} is not a {protocol.__name__}")
        return found

    def _shared(self, group: str) -> object:
        self.used.add(group)
        if group not in self.built:
            self.within[group] = set()
            self.built[group] = self._built(self.config.get(group), group)
        return self.built[group]

    def _built(self, node: DictConfig | None, where: str) -> object:
        if not isinstance(node, DictConfig) or _TARGET not in node:
            known = ", ".join(path.stem for path in config_members(where)) or f"a dict with {_TARGET}"
            raise UsageError(f"{where}={shortened(node)} names no part; it can be {known}")
        target = _located(str(node[_TARGET]), where)
        values = {str(key): self._value(node, key, where) for key in node if key != _TARGET}
        names = {key: _reference(node, key) or f"{where}.{key}" for key in values}
        settings = json.dumps(OmegaConf.to_container(node, resolve=True), sort_keys=True, default=str)
        if settings not in self._equal:
            made = called(target, values, where, names)
            if isinstance(made, Chat | Metered):  # each has a budget of its own
                return made
            self._equal[settings] = made
        return self._equal[settings]

    def _value(self, node: DictConfig | ListConfig, key: Any, where: str) -> object:
        if OmegaConf.is_missing(node, key):
            raise UsageError(f"{where}.{key} is missing{_comment(node, key)}: give it as {where}.{key}=...")
        reference = _reference(node, key)
        if reference is not None:
            top = reference.partition(".")[0]
            self.used.add(top)
            if reference in self.built or _is_part(self.config.get(reference)):
                part = self._shared(reference)
                inner = {reference, *self.within.get(reference, ())}
                self.within.setdefault(where.partition(".")[0], set()).update(inner)
                return part
        value = node[key]
        if isinstance(value, DictConfig) and _TARGET in value:
            return self._built(value, f"{where}.{key}")
        if isinstance(value, DictConfig):
            return {inner: self._value(value, inner, f"{where}.{key}") for inner in value}
        if isinstance(value, ListConfig):
            return [self._value(value, i, f"{where}.{key}") for i in range(len(value))]
        return value


def called(target: Callable[..., T], values: Mapping[str, object], where: str, names: Mapping[str, str]) -> T:
    """Call a class or function; anything wrong with the arguments raises `UsageError`.

    Args:
        target: is called, after its arguments were checked against its type hints.
        values: the arguments.
        where: the place in the config.
        names: what each argument is called there.
    """
    for key, value in values.items():
        if not _finite(value):
            raise UsageError(f"{names[key]}={value!r} must be a finite number")
    for key, hint in _hints(target).items():
        if key in values and not _fits(values[key], hint):
            needed = "" if names[key].startswith(where) else f", which {where} needs"
            raise UsageError(
                f"{names[key]}={shortened(values[key])} is not of type {_readable(hint)}{needed}"
            )
    try:
        signature(target).bind(**values)
    except TypeError as error:
        allowed = ", ".join(signature(target).parameters)
        raise UsageError(f"{where}: {error}; allowed keys: {allowed}") from error
    try:
        return target(**values)
    except DnrError as error:
        raise type(error)(_with_place(str(error), where, names)) from error
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{where or 'config'}: {shortened(str(error))}") from error


def _located(name: str, where: str) -> Callable[..., object]:
    try:
        found: Callable[..., object] = get_object(name)
    except Exception as error:  # whatever the import of somebody's module raises
        reason = str(error).strip().splitlines()
        raise UsageError(
            f"{where}: {name} cannot be imported: {reason[-1] if reason else error!r}"
        ) from error
    return found


def _reference(node: DictConfig | ListConfig, key: Any) -> str | None:
    """The key that a value like ${scorer} or ${scorer.k} refers to."""
    if not OmegaConf.is_interpolation(node, key):
        return None
    plain: Any = OmegaConf.to_container(node, resolve=False)
    match = _REFERENCE.fullmatch(str(plain[key]))
    return match[1] if match else None


def _is_part(node: object) -> bool:
    return isinstance(node, DictConfig) and _TARGET in node


def _hints(target: Callable[..., object]) -> dict[str, object]:
    """The type hints of the arguments; none where they name what only type checkers import."""
    try:
        return dict(get_type_hints(target.__init__ if isclass(target) else target, include_extras=True))
    except (NameError, AttributeError, TypeError):
        return {}


def _comment(node: DictConfig | ListConfig, key: Any) -> str:
    """The comment beside a missing value, with an example, of the file that names the same class."""
    target = node.get(_TARGET) if isinstance(node, DictConfig) else None
    missing = re.compile(rf"^{re.escape(str(key))}: \?\?\? # (.+)$", re.MULTILINE)
    for path in sorted(CONF.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if f"_target_: {target}\n" in text and (comment := missing.search(text)):
            return f" ({comment[1]})"
    return ""


def _fits(value: object, hint: object) -> bool:
    if _has_bool(value) and not {bool, object, Any} & set(_leaves(hint)):
        return False
    fits = bool(is_bearable(value, hint, conf=_NUMBERS))  # type: ignore[arg-type]
    return fits and _items_fit(value, hint)


def _items_fit(value: object, hint: object) -> bool:
    """Whether every item of a list or mapping fits: beartype looks at one of them."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is abc.Mapping and isinstance(value, Mapping):
        return all(_fits(item, inner[1]) for item in value.values())
    if origin is abc.Sequence and isinstance(value, list):
        return all(_fits(item, inner[0]) for item in value)
    return True


def _has_bool(value: object) -> bool:
    """Python takes true for 1; people do not mean it."""
    if isinstance(value, Mapping):
        return any(_has_bool(item) for item in value.values())
    return any(_has_bool(item) for item in value) if isinstance(value, list) else isinstance(value, bool)


def _leaves(hint: object) -> list[object]:
    inner = get_args(hint)
    return [leaf for part in inner for leaf in _leaves(part)] if inner else [hint]


def _finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _readable(hint: object) -> str:
    if isclass(hint) and not hasattr(hint, "__args__"):
        return str(hint.__name__)
    return re.sub(r"<class '([\w.]+)'>|\b(?:[a-z_]\w*\.)+(?=\w)", r"\1", str(hint))


def _with_place(message: str, where: str, names: Mapping[str, str]) -> str:
    """The message of a part, which names its own argument, with the key of the config in its place."""
    key = re.match(r"(\w+)(?==)", message)
    if key:
        return names.get(key[1], f"{where}.{key[1]}" if where else key[1]) + message[key.end() :]
    known = not where or message.startswith((f"{where}.", f"{where}:", f"{where}="))
    return message if known else f"{where}: {message}"
