"""Plans a rating study: how many ratings for which error, at what price?

    dnr-bench rate plan --error 0.1 --price 0.08 --methods 4 --raters 20

The spread between neurons, between raters and within both is that of the ratings that DnD's authors
published; with --pilot, that of your own. A study that asks about pictures is planned where it is built:
dnr-bench rate build --asks pictures tells its error and price.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import console, number_column, plain_table
from dnr_bench.results.ratings.analysis import Rating, ratings_of
from dnr_bench.results.ratings.answers import DATABASE, collect
from dnr_bench.results.ratings.planning import PUBLISHED, plans, spreads_of
from dnr_bench.results.ratings.study import CHANCE, Study
from dnr_bench.results.ratings.validity import Rules, filtered
from dnr_bench.results.ratings.wide import is_wide, read_wide


def main(words: Sequence[str]) -> int:
    """Print what a study would take."""
    parser = CommandParser("rate plan", __doc__)
    parser.add_argument("--error", type=float, default=0.1, help="of a method's mean rating (default: 0.1)")
    parser.add_argument("--price", type=float, default=0.08, help="dollars per neuron judged (default: 0.08)")
    parser.add_argument("--methods", type=int, default=4, help="labels per neuron (default: 4)")
    parser.add_argument("--raters", type=int, default=20, help="people who take part (default: 20)")
    parser.add_argument(
        "--pilot", nargs="+", type=Path, metavar="FILE",
        help="a study's folder and its answers, or a table of ratings",
    )  # fmt: skip
    given = parser.parse_intermixed_args(words)
    spreads = spreads_of(_pilot(given.pilot)) if given.pilot else PUBLISHED
    found = plans(given.error, given.price, given.methods, given.raters, spreads)
    table = plain_table(f"Studies with a standard error of {given.error:g}")
    for name in ("neurons", "ratings per neuron", "labels rated", "detectable difference", "dollars"):
        number_column(table, name.replace(" ", "\n"))
    for plan in found:
        table.add_row(
            str(plan.neurons),
            str(plan.per_neuron),
            str(plan.ratings),
            f"{plan.detectable:.2f}",
            f"{plan.dollars:.2f}",
        )
    out = console()
    out.print(table)
    out.print(
        "detectable: the smallest difference of two methods that 80 of 100 such studies would show. Variances"
        f" between neurons {spreads[0].neurons:.2f}, between raters {spreads[0].raters:.2f}, within both"
        f" {spreads[0].rest:.2f}{'' if given.pilot else ' (published)'}.",
        style="dim",
    )
    return 0


def _pilot(paths: Sequence[Path]) -> list[Rating]:
    first, *others = paths
    if first.is_file() and is_wide(first):
        return list(read_wide(first).ratings)
    study = Study.read(first)
    folder = first if first.is_dir() else first.parent
    files = others or [folder / DATABASE]
    kept, _ = filtered(collect(files, study).answers, study, Rules())
    found = [rating for rating in ratings_of(kept, study) if rating.method != CHANCE]
    if not found:
        raise UsageError(f"--pilot: no rating counts in {', '.join(map(str, files))}")
    return found
