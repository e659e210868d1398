"""Summarize all annotations of a unit but one, and compare the summary with that one.

    python -m tests.language.summaries FILE [key=value ...]

FILE: a CSV file with the columns layer, unit and summary, several rows per unit, as MILANNOTATIONS has them.
The settings choose the summarizer, and the sentence encoder that judges (sentence_encoder=mpnet).

Beside it stand copying one of the annotations, and the best constant: the annotation of some unit that does
best for all. Means of cosines over units with 95% intervals, by layer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from dnr_bench.app.command_line import exit_code_of
from dnr_bench.app.composition import load_config
from dnr_bench.app.parts import PartBuilder
from dnr_bench.data.captions import Captions
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import console
from dnr_bench.protocols import Summarizer, TextEncoder, judged_by, knows
from dnr_bench.statistics.intervals import estimate
from evaluators.milannotations import read_annotations

#: Constants that are tried: annotations drawn at random from all units.
_CONSTANTS = 3000
_COLUMNS = ("layer", "unit", "summary")


def main(words: Sequence[str]) -> int:
    """Measure and print the table."""
    if not words or "=" in words[0]:
        raise UsageError("name the CSV file of the annotations first: layer,unit,summary")
    parts = PartBuilder(load_config(*words[1:]))
    encoder, summarizer = parts.part("sentence_encoder", TextEncoder), parts.part("summarizer", Summarizer)
    texts = {n: found for n, found in read_annotations(words[0], _COLUMNS, 0).items() if len(found) > 1}
    flat = [text for of_unit in texts.values() for text in of_unit]
    if not knows(encoder, flat):
        raise UsageError(f"{encoder.name} does not know the words of {flat[0]!r}: sentence_encoder=mpnet")
    console().print(_table(texts, summarizer, encoder))
    return 0


def _table(texts: dict[Neuron, list[str]], summarizer: Summarizer, encoder: TextEncoder) -> Table:
    left_out = [(unit, place) for unit, found in texts.items() for place in range(len(found))]
    given = [tuple(text for i, text in enumerate(texts[unit]) if i != place) for unit, place in left_out]
    summaries = [
        found[0] if found else of_unit[0]
        for found, of_unit in zip(
            summarizer.summarize([Captions(of_unit) for of_unit in given], 5, 0), given, strict=True
        )
    ]
    references = encoder.embed_texts([texts[unit][place] for unit, place in left_out])
    drawn = np.random.default_rng(0).permutation([text for found in texts.values() for text in found])
    constants = list(dict.fromkeys(drawn.tolist()))[:_CONSTANTS]
    vectors = encoder.embed_texts(constants)
    best = int((vectors @ references.mean(axis=0)).argmax())
    copies = np.stack(
        [
            (encoder.embed_texts(list(of_unit)) @ reference).mean()
            for of_unit, reference in zip(given, references, strict=True)
        ]
    )
    rows = {
        "summary": (encoder.embed_texts(summaries) * references).sum(axis=1),
        "copy of one annotation": copies,
        f"best constant ({constants[best]!r})": references @ vectors[best],
    }
    layers = list(dict.fromkeys(unit.layer for unit in texts))
    table = Table(
        "label", "all layers", *layers, title=f"Cosine with the annotation left out, by {judged_by(encoder)}"
    )
    names = np.asarray([str(unit) for unit, _ in left_out])
    of_layer = np.asarray([unit.layer for unit, _ in left_out])
    for name, values in rows.items():
        cells = []
        for layer in (None, *layers):
            chosen = np.ones(len(values), bool) if layer is None else of_layer == layer
            found = estimate(values[chosen].astype(float), names[chosen].tolist())
            cells.append(f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})")
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: main(sys.argv[1:]), sys.argv[1:]))
