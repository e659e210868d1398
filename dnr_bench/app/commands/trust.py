"""Which metric orders settings as the truth does? dnr-bench trust RUNS --truth planted.attribute_f1

For all runs in a folder that describe the same neurons: the rank correlation of each metric with the truth
over the settings, its 95% interval over neurons, and what is lost by taking the setting that the metric likes
best. Whoever has no truth finds here which metric to look at. +experiment=trust makes runs for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.outputs.terminal.console import console, escaped, number_column, plain_table, text_column
from dnr_bench.results.records import records_in
from dnr_bench.results.trust import trusted


def main(words: Sequence[str]) -> int:
    """Hold every metric of the named runs against the truth."""
    parser = CommandParser("trust", __doc__)
    parser.add_argument("folder", type=Path, help="with runs, also in folders below")
    parser.add_argument("--truth", required=True, metavar="METRIC", help="what counts as the truth")
    given = parser.parse_args(words)
    found = trusted(records_in(given.folder), given.truth)
    table = plain_table(f"Agreement with {given.truth} over settings")
    text_column(table, "metric")
    for name in ("rank correlation", "95% interval", "loss", "within", "settings", "neurons"):
        number_column(table, name.replace(" ", "\n"))
    for trust in found:
        r = "–" if isnan(trust.correlation) else f"{trust.correlation:+.2f}"
        within = "–" if isnan(trust.within) else f"{trust.within:+.2f}"
        ends = "–" if isnan(trust.low) else f"{trust.low:+.2f} to {trust.high:+.2f}"
        cells = [f"{trust.loss:.3f}", within, str(trust.settings), str(trust.neurons)]
        table.add_row(escaped(trust.metric), r, ends, *cells)
    out = console()
    out.print(table)
    out.print(
        "rank correlation: Spearman's, of the settings' means; interval: over resampled neurons, for metrics"
        " of neurons; loss: how far the setting that the metric likes best falls behind the best one; within:"
        " rank correlation over the neurons of a setting, the mean over settings.\n",
        style="dim",
    )
    return 0
