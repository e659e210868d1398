"""Builds a rating study: a page per rater, from finished runs.

    dnr-bench rate build DnD=mlruns/runs/A INVERT=mlruns/runs/B

A run is its folder, with a name before it if you like. Raters see the highest images of each neuron and the
labels of all methods in random order; they give 1 to 5 and say which is best. Settings of the runs
(probe=folder probe.path=... blur=2) after them show probing images in full size; without settings the
pictures are the small ones of the runs' pages. With --asks pictures, raters say of single images whether a
label describes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.rate.pictures import Draws, check_probe, highest, picture_montages, samples_of, thumbnails
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.ranges import check_range
from dnr_bench.outputs.pages.montage import Montage
from dnr_bench.outputs.pages.rater import rater_page
from dnr_bench.outputs.platforms import write_platform_files
from dnr_bench.outputs.terminal.console import console, escaped
from dnr_bench.protocols import Presence
from dnr_bench.results.comparison import Outcome
from dnr_bench.results.leaderboard import network_of
from dnr_bench.results.ratings.design import (
    Design,
    Source,
    label_items,
    picture_items,
    shared_neurons,
    study_of,
    unlabeled_of,
)
from dnr_bench.results.ratings.study import Study
from dnr_bench.results.schema import NeuronResult, RunResult
from dnr_bench.session import Session


def main(words: Sequence[str]) -> int:
    """Build the study that the command line asks for, and say what to do with it."""
    parser = _parser()
    given = parser.parse_intermixed_args(words)
    check_range(1, 50, shown=given.shown)
    check_range(32, 1024, size=given.size)
    check_range(8, 10_000, images=given.images)
    check_range(0, 10_000, price=given.price)
    check_range(1, 1_000_000, neurons=given.neurons)
    folders, sources, settings = sorted_words(given.words)
    design = Design(given.raters, given.per_item, given.checks, given.chance, given.seed)
    into = Path(given.into)
    if (into / "study.json").exists():
        raise UsageError(f"{into} holds a study already: choose another folder with --into")
    neurons = shared_neurons(sources, given.neurons, given.seed)
    session, presence = None, None
    if settings or given.asks == "pictures":
        config = load_config(*settings, "evaluator=[]", config_dir=given.config_dir)
        session = build_run(config).session()  # settings of the runs: not all matter here
        presence = PartBuilder(config).part("presence", Presence)
        check_probe(session, sources)
    if given.asks == "pictures" and session is not None and presence is not None:
        study, montages, gain = _picture_study(sources, neurons, session, presence, design, given)
    else:
        study, montages = _label_study(folders, sources, neurons, session, design, given)
        gain = 0.0
    key = write_study(into, study, montages, given.post, given.pictures_at)
    _print(into, study, key, given.price, gain, small=session is None)
    return 0


def write_study(into: Path, study: Study, montages: Mapping[str, Montage], post: str, address: str) -> Path:
    """Write the pages, the files for platforms, and the key last: a folder with it is complete."""
    for page in study.pages:
        with writing(into / "pages" / f"{page.id}.html") as partial:
            partial.write_text(rater_page(study, page, montages, post), encoding="utf-8", errors="replace")
    write_platform_files(into, study, montages, address)
    return study.write(into)


def _label_study(
    folders: Sequence[Path],
    sources: Sequence[Source],
    neurons: Sequence[NeuronResult],
    session: Session | None,
    design: Design,
    given: argparse.Namespace,
) -> tuple[Study, dict[str, Montage]]:
    if session is None:
        found = thumbnails(folders, sources, neurons, given.shown)
    else:
        found = dict(highest(session, neurons, given.shown, given.size))
    judged = [neuron for neuron in neurons if neuron.name in found]
    if not judged:
        raise UsageError(
            "the runs kept no pictures of these neurons (pictures.zip): give the settings of the runs, so"
            " that they are taken from the probing set"
        )
    counts = {name: montage.n for name, montage in found.items()}
    items = label_items(sources, judged, counts, design)
    study = study_of(
        given.title, sources, items, design, unlabeled=unlabeled_of(sources, judged), code=given.code
    )
    return study, {item.montage: found[item.neuron] for item in items}


def _picture_study(
    sources: Sequence[Source],
    neurons: Sequence[NeuronResult],
    session: Session,
    presence: Presence,
    design: Design,
    given: argparse.Namespace,
) -> tuple[Study, dict[str, Montage], float]:
    if summing := [s.name for s in sources if any(neuron.weights for neuron in s.result.neurons)]:
        raise UsageError(
            f"{summing[0]} gives weighted sums, of which nobody can say whether a picture shows them: leave"
            " it out, or ask for ratings"
        )
    samples, gain = samples_of(sources, neurons, session, presence, Draws(given.images, seed=design.seed))
    items = picture_items(samples, design)
    unlabeled = unlabeled_of(sources, neurons)
    study = study_of(
        given.title, sources, items, design, unlabeled=unlabeled, samples=samples, code=given.code
    )
    return study, dict(picture_montages(items, session, given.size)), gain


def sorted_words(words: Sequence[str]) -> tuple[list[Path], list[Source], list[str]]:
    """The runs, under different names, and settings."""
    folders: list[Path] = []
    sources: list[Source] = []
    settings = []
    for word in words:
        name, sign, rest = word.partition("=")
        is_run = not sign or name[:1].isupper() or Path(word).exists() or _is_run(Path(rest))
        if not is_run:
            settings.append(word)
            continue
        named = bool(sign) and not Path(word).exists()
        folder = Path(rest if named else word)
        folder = folder.parent if folder.name == "result.json" else folder
        result, outcome = RunResult.read(folder), Outcome.read(folder)
        found = name if named else outcome.name() if outcome else folder.name
        sources.append(Source(found, result))
        folders.append(folder)
    if not sources:
        raise UsageError("no run is named: dnr-bench rate build NAME=mlruns/runs/<time> ...")
    names = [source.name for source in sources]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"two runs are called {doubled!r}: give each a name, A=mlruns/runs/1 B=mlruns/runs/2"
        )
    if len({network_of(source.result) for source in sources}) > 1:
        raise UsageError("the runs describe different networks: name runs of one of them")
    return folders, sources, settings


def _is_run(path: Path) -> bool:
    return path.name == "result.json" or (path / "result.json").is_file()


def _parser() -> CommandParser:
    parser = CommandParser("rate build", __doc__)
    parser.add_argument(
        "words", nargs="+", metavar="[NAME=]RUN or key=value", help="runs, and their settings"
    )
    parser.add_argument("--into", default="study", help="the folder of the study (default: study)")
    parser.add_argument("--asks", choices=("ratings", "pictures"), default="ratings", help="see above")
    parser.add_argument("--neurons", type=int, help="judge so many, drawn at random from each layer")
    parser.add_argument("--raters", type=int, default=6, help="pages, one per person (default: 6)")
    parser.add_argument("--per-item", type=int, default=3, help="raters who see each item (default: 3)")
    parser.add_argument("--checks", type=int, default=2, help="attention checks per page (default: 2)")
    parser.add_argument(
        "--no-chance", dest="chance", action="store_false", help="show no label of another neuron beside them"
    )
    parser.add_argument("--shown", type=int, default=10, help="highest images per neuron (default: 10)")
    parser.add_argument("--images", type=int, default=60, help="images drawn per label, for pictures (60)")
    parser.add_argument(
        "--size", type=int, default=192, help="pixels of a picture from the probing set (192)"
    )
    parser.add_argument("--post", default="", metavar="URL", help="where pages send answers")
    parser.add_argument("--code", default="", help="the completion code of your platform, shown at the end")
    parser.add_argument("--pictures-at", default="", metavar="URL", help="where platforms find the pictures")
    parser.add_argument(
        "--price", type=float, default=0.08, help="dollars per item (default: 0.08, DnD A.1.6)"
    )
    parser.add_argument("--title", default="Describing pictures", help="what raters read at the top")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder with further configs")
    return parser


def _print(into: Path, study: Study, key: Path, price: float, gain: float, *, small: bool) -> None:
    out = console()
    turns = sum(len(page.turns) for page in study.pages)
    longest = max(len(page.turns) for page in study.pages)
    labels = {label.text for item in study.items for label in item.labels if label.methods}
    out.print(
        f"{len(study.neurons)} neurons, {len(study.methods)} methods, {len(labels)} different labels:"
        f" {len(study.pages)} pages of up to {longest} items, ${turns * price:.2f} at ${price:g} per item"
    )
    for method, neurons in study.unlabeled.items():
        if neurons:
            out.print(
                f"{escaped(method)} has no label for {len(neurons)} of them, which is counted, not rated"
            )
    if study.samples:
        errors = sorted(sample.planned for sample in study.samples)
        out.print(
            f"expected standard error of a label's correlation: {errors[len(errors) // 2]:.3f} (median);"
            f" evenly drawn images would need {gain:.0f} times as many ratings"
        )
    if small:
        out.print("pictures: 64 pixels, from the runs' pages; give settings for larger ones", style="dim")
    out.print(f"key:        {escaped(str(key))}  (keep it: it tells whose labels they are)")
    out.print(f"pages:      {escaped(str(into / 'pages'))}  one per rater, works from a file or a web host")
    out.print(f"platforms:  {escaped(str(into / 'platforms'))}  Prolific, Label Studio, MTurk")
    out.print(f"collect:    dnr-bench rate serve {escaped(str(into))}")
    out.print(f"analyze:    dnr-bench rate analyze {escaped(str(into))} ANSWERS...")
