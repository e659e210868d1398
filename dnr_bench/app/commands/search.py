"""Finds the units of finished runs that a text describes, by CLIP (SemanticLens, Dreyer et al. 2025).

    dnr-bench search "striped things" mlruns/runs/<time>

Units are known by the mean CLIP vector of their exemplars, which every run with a report leaves in its
folder; no image is looked at. The text is read by the CLIP of your settings: of runs with another one give
the same encoder=... again. Several folders are searched together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from dnr_bench.app.command_line import CommandParser
from dnr_bench.app.composition import load_config
from dnr_bench.app.parts import PartBuilder
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.outputs.terminal.console import console, escaped, number_column, plain_table, text_column
from dnr_bench.protocols import ImageTextEncoder, knows
from dnr_bench.results.schema import RunResult
from dnr_bench.results.unit_vectors import UnitVectors


@dataclass(frozen=True)
class Hit:
    """A unit that a text describes: how similar it is, and how often chance gives as much."""

    folder: Path
    neuron: str
    similarity: float
    chance: float
    label: str


def search(text: str, folders: Sequence[Path], encoder: ImageTextEncoder) -> list[Hit]:
    """All units of some runs, the most similar one first."""
    query, found = None, []
    for folder in folders:
        units = UnitVectors.read(folder)
        if units.encoder[1] != encoder.fingerprint:
            raise UsageError(
                f"the units of {folder} were seen by {units.encoder[0]}, and your CLIP is {encoder.name}:"
                " give the settings of that run: encoder, its name, its dtype"
            )
        query = encoder.embed_texts([text]) if query is None else query
        labels = {neuron.name: neuron.answer or neuron.unscored for neuron in RunResult.read(folder).neurons}
        similarities, chances = units.search(query)
        found += [
            Hit(folder, name, float(value), float(chance), labels.get(name) or "")
            for name, value, chance in zip(units.neurons, similarities[:, 0], chances[:, 0], strict=True)
        ]
    return sorted(found, key=lambda hit: -hit.similarity)


def main(words: Sequence[str]) -> int:
    """Search the runs that the command line names."""
    parser = CommandParser("search", __doc__)
    parser.add_argument("text", help="what to look for, in words")
    parser.add_argument(
        "words", nargs="+", metavar="FOLDER or key=value", help="runs, and settings of the CLIP"
    )
    parser.add_argument("--top", type=int, default=10, help="how many units are shown (default: 10)")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder with further configs")
    arguments = parser.parse_args(words)
    check_range(1, 1_000_000, top=arguments.top)
    if not arguments.text.strip():
        raise UsageError("the text is empty")
    settings = [word for word in arguments.words if "=" in word and not Path(word).exists()]
    folders = [Path(word) for word in arguments.words if word not in settings]
    if not folders:
        raise UsageError("no folder of a run is named: mlruns/runs/<time>")
    config = load_config(*settings, config_dir=arguments.config_dir)
    encoder = PartBuilder(config).part("encoder", ImageTextEncoder)
    text = " ".join(arguments.text.split())
    found = search(text, folders, encoder)
    if not knows(encoder, [text]):
        console().print(f"[dim]{encoder.name} does not know all words of {escaped(text)!r}[/dim]")
    _print(found[: arguments.top], text, len(found), several=len(folders) > 1)
    return 0


def _print(hits: Sequence[Hit], text: str, n: int, *, several: bool) -> None:
    table = plain_table(f"{escaped(text)}: {len(hits)} of {n} units")
    if several:
        text_column(table, "run")
    for name in ("neuron", "label"):
        text_column(table, name)
    for name in ("similarity", "chance"):
        number_column(table, name)
    for hit in hits:
        page = (hit.folder / "report.html").resolve()
        name = escaped(hit.neuron)
        linked = f"[link={page.as_uri()}#{quote(hit.neuron)}]{name}[/link]" if page.is_file() else name
        chance = "–" if np.isnan(hit.chance) else f"{hit.chance:.1%}"
        run = [escaped(hit.folder.name)] if several else []
        table.add_row(*run, linked, escaped(hit.label), f"{hit.similarity:.3f}", chance)
    out = console()
    out.print(table)
    out.print(
        "chance: the share of pairs of a unit and another unit's label that are as similar", style="dim"
    )
    first = {hit.folder: hit for hit in reversed(hits)}  # of each run the most similar unit
    for folder, hit in sorted(first.items()):
        page = folder / "report.html"
        if page.is_file():
            out.print(f"pictures: {escaped(str(page))}#{escaped(quote(hit.neuron))}", style="dim")
