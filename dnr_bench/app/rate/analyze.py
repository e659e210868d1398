"""Analyzes the answers of a rating study: which count, the papers' tables, a page, Markdown, a run in MLflow.

    dnr-bench rate analyze study                  what dnr-bench rate serve has collected
    dnr-bench rate analyze study answers/*.json   files that raters have sent; exports of MTurk, Label Studio
    dnr-bench rate analyze ratings.csv            a table of others, with the columns Layer, Unit,
                                                  METHOD Label and METHOD RATER Rating

It writes ratings.json, ratings.html and ratings.md into the study's folder (or --into). evaluator=[ratings]
evaluator.ratings.file=study/ratings.json puts them beside the other metrics of a run.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.data.scorecard import Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.ratings import write_ratings
from dnr_bench.outputs.terminal.console import console, escaped, print_link
from dnr_bench.outputs.terminal.ratings import print_ratings
from dnr_bench.results.ratings.analysis import chance_of, correlated, rated, ratings_of
from dnr_bench.results.ratings.answers import DATABASE, Collected, Refused, collect
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.results.ratings.study import Study
from dnr_bench.results.ratings.validity import Dropped, Rules, filtered
from dnr_bench.results.ratings.wide import is_wide, read_wide

#: The tag that MLflow shows as the description of a run, in Markdown.
_DESCRIPTION = "mlflow.note.content"


def analyze_study(study: Study, paths: Sequence[Path], rules: Rules) -> RatingResult:
    """What follows from the answers in some files.

    Raises:
        UsageError: no answer counts.
    """
    collected = collect(paths, study)
    kept, dropped = filtered(collected.answers, study, rules)
    if not kept:
        raise UsageError(_nothing(collected, dropped))
    if study.asks == "pictures":
        found, chance = correlated(kept, study), 0.0
    else:
        ratings = ratings_of(kept, study)
        found, chance = rated(ratings, study.methods), chance_of(ratings)
    pages = {answers.page for answers in collected.answers if answers.page}
    tables = (*found.tables, *_left_out(collected.refused, dropped), *_unlabeled(study))
    return RatingResult(
        study.title,
        study.id,
        study.asks,
        found.labels,
        chance if chance == chance else None,
        tables,
        found.figures,
        (len(study.pages), len(pages)),
    )


def analyze_wide(path: Path) -> RatingResult:
    """What follows from a table of others."""
    wide = read_wide(path)
    if not wide.ratings:
        raise UsageError(f"{path} holds no rating that counts")
    found = rated(wide.ratings, wide.methods)
    tables = (*found.tables, *_left_out((), wide.dropped))
    return RatingResult(path.stem, "", "ratings", found.labels, None, tables, found.figures, (0, 0))


def main(words: Sequence[str]) -> int:
    """Analyze what the command line names; print, write and log it."""
    parser = _parser()
    given = parser.parse_intermixed_args(words)
    into, study, result = _analyzed(given)
    result.write(into)
    page, text = write_ratings(result, into, study)
    out = console()
    print_ratings(result, out)
    out.print(f"page: {escaped(str(page))}\n")
    _log(result, given, [page, text])
    return 0


def _analyzed(given: argparse.Namespace) -> tuple[Path, Study | None, RatingResult]:
    first = given.study
    if first.is_file() and is_wide(first):
        if given.files:
            raise UsageError(f"{first} is a table of ratings: analyze it alone")
        return Path(given.into or "."), None, analyze_wide(first)
    study = Study.read(first)
    folder = first if first.is_dir() else first.parent
    files = [file for name in given.files for file in (sorted(name.iterdir()) if name.is_dir() else [name])]
    collected = folder / DATABASE
    if collected.is_file():
        files = [collected, *(file for file in files if file.resolve() != collected.resolve())]
    if not files:
        raise UsageError(
            f"no file of answers is named, and {folder} has no {DATABASE} of `dnr-bench rate serve`"
        )
    rules = Rules(given.missed_checks, given.seconds, given.straight, given.consistent)
    return Path(given.into or folder), study, analyze_study(study, files, rules)


def _parser() -> CommandParser:
    parser = CommandParser("rate analyze", __doc__)
    parser.add_argument("study", type=Path, help="the folder of the study, or a table of ratings")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="answers, or folders of them")
    rules = Rules()
    parser.add_argument(
        "--missed-checks", type=float, default=rules.missed_checks,
        help="leave raters out who miss this share of attention checks (default: 0.5; 1.01: nobody)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=rules.seconds,
        help="leave raters out whose median item took less (default: 2), and items that took half of it",
    )  # fmt: skip
    parser.add_argument(
        "--straight", type=float, default=rules.straight,
        help="leave raters out who give one answer to more than this share of questions (default: 0.95)",
    )  # fmt: skip
    parser.add_argument(
        "--inconsistent", dest="consistent", action="store_false",
        help="count items whose best label is not among those rated highest, too",
    )  # fmt: skip
    parser.add_argument(
        "--into", metavar="DIR", help="where results are written (default: the study's folder)"
    )
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false", help="log nothing")
    parser.add_tracking()
    return parser


def _log(result: RatingResult, given: argparse.Namespace, files: Sequence[Path]) -> None:
    if not given.mlflow:
        return
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    place = tracking_place(given.mlruns, given.tracking_uri)
    tracker = Tracker(place, given.experiment)
    metrics = {f"ratings.{re.sub(r'[^a-zA-Z0-9_. /-]', '_', name)}": v for name, v in result.figures.items()}
    tags = {"study": result.study, "pages_answered": f"{result.pages[1]} of {result.pages[0]}"}
    tags[_DESCRIPTION] = files[-1].read_text(encoding="utf-8")
    run_id = tracker.log_tables(f"ratings: {result.title}", result.tables, tags, metrics, files)
    print_link(place, run_id, tracker.experiment_id, console())


def _left_out(refused: Sequence[Refused], dropped: Sequence[Dropped]) -> list[Table]:
    rows: list[dict[str, object]] = [asdict(one) for one in dropped]
    rows += [{"rater": one.source, "items": 0, "reason": f"refused: {one.reason}"} for one in refused]
    return [Table("left_out", rows)] if rows else []


def _unlabeled(study: Study) -> list[Table]:
    rows = [{"method": method, "neurons": len(n)} for method, n in study.unlabeled.items() if n]
    return [Table("without_label", rows)] if rows else []


def _nothing(collected: Collected, dropped: Sequence[Dropped]) -> str:
    reasons = [f"{one.source}: {one.reason}" for one in collected.refused]
    reasons += [f"{one.rater}: {one.reason}" for one in dropped]
    shown = "\n".join(reasons[:10]) or "the files hold no answer"
    more = f"\nand {len(reasons) - 10} more" if len(reasons) > 10 else ""
    return f"no answer counts:\n{shown}{more}"
