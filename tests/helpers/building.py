"""Parts of conf/ by themselves."""

from __future__ import annotations

from typing import TypeVar

from omegaconf import DictConfig

from dnr_bench.app.parts import PartBuilder

T = TypeVar("T")


def build(node: DictConfig, protocol: type[T], where: str) -> T:
    """The part that a node of a composed config names; what it refers to is built from the same config."""
    return PartBuilder(node._get_root()).build(node, protocol, where)
