"""Scores one concept for one neuron, beside the neuron's own candidates, from what is stored (DnR 5).

    dnr-bench try neuron=concepts:17 concept="striped ring"

Give the settings of your run after it (scorer=semantic blur=2 ...), so that its stored images and candidates
are used; what is not stored is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rich import box
from rich.table import Table

from dnr_bench.app.command_line import CommandParser, taken_words
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig
from dnr_bench.data.evidence import Candidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.neuron_names import parse_neuron
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.outputs.terminal.console import console, escaped
from dnr_bench.statistics.matching import mid_rank


@dataclass(frozen=True)
class Trial:
    """A concept among the candidates of a neuron: all scored together, best first.

    rows: (concept, origin or "yours", score, the neuron's activations on its images, highest first).
    """

    neuron: Neuron
    rank: float
    rows: tuple[tuple[str, str, float, Float[np.ndarray, " _"]], ...]


def try_concept(config: RunConfig, neuron: Neuron, concept: str) -> Trial:
    """Draw the concept unless its images are stored, and score it with the neuron's candidates."""
    if not concept.strip():
        raise UsageError("concept is empty")
    method, session = config.method, config.session()
    if not isinstance(method, DescribeAndDissect):
        raise UsageError("only a method that scores images of concepts can try one: method=describe")
    (explanation,) = method.explain([neuron], session)
    if explanation.exemplars is None:
        raise UsageError(f"neuron={neuron} cannot be described: {explanation.unscored}")
    origins = {candidate.text: candidate.origin for candidate in explanation.candidates}
    found = [Candidate(text, origin) for text, origin in origins.items()]
    if concept not in origins:
        found.append(Candidate(concept, "user"))
    texts = [candidate.text for candidate in found]
    scores = method.scores({neuron: found}, session)[neuron]
    drawn = {rendering.concept: rendering for rendering in session.draw(texts)}
    order = np.argsort(-scores, kind="stable")
    return Trial(
        neuron,
        mid_rank(scores, texts.index(concept)),
        tuple(
            (
                texts[i],
                "yours" if texts[i] == concept else origins[texts[i]],
                float(scores[i]),
                _descending(drawn[texts[i]].activations[neuron.layer][:, neuron.unit]),
            )
            for i in order
        ),
    )


def _descending(values: Sequence[float] | np.ndarray) -> Float[np.ndarray, " _"]:
    return np.sort(np.asarray(values))[::-1]


def main(words: Sequence[str]) -> int:
    """Parse the command line, try the concept, and print where it stands."""
    parser = CommandParser("try", __doc__)
    parser.add_settings()
    arguments = parser.parse_args(words)
    own, overrides = taken_words(arguments.overrides, {"neuron": "", "concept": ""})
    if not own["neuron"] or not own["concept"].strip():
        raise UsageError('needed are neuron=LAYER:UNIT and concept="WORDS"; see --help')
    neuron = parse_neuron(own["neuron"], "neuron")
    chosen = [f"neurons.layers=[{neuron.layer}]", f"neurons.units=[{neuron.unit}]", "evaluator=[]"]
    config = load_config(*overrides, *chosen, config_dir=arguments.config_dir)
    trial = try_concept(build_run(config, overrides), neuron, own["concept"].strip())
    _print(trial, own["concept"].strip())
    return 0


def _print(trial: Trial, concept: str) -> None:
    table = Table(title=f"{trial.neuron}", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("concept", "from", "score", "activations on its images"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for text, origin, score, activations in trial.rows:
        style = "bold" if text == concept else ""
        shown = " ".join(f"{value:.2f}" for value in activations)
        table.add_row(escaped(text), origin, f"{score:.4g}", f"[dim]{shown}[/dim]", style=style)
    out = console()
    out.print(table)
    out.print(f"  [bold]{escaped(concept)}[/bold] has rank {trial.rank:g} of {len(trial.rows)}")
