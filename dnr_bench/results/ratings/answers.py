"""What raters answered: read from files of pages and platforms, and refused where it cannot be an answer."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.plain_values import structured
from dnr_bench.infra.text_files import read_text, shortened
from dnr_bench.results.ratings.study import SCALE, Item, Study

#: The first field of every file of answers.
FORMAT = "dnr_bench ratings 1"
#: The database in which `dnr-bench rate serve` collects answers.
DATABASE = "answers.db"
#: Nobody looks at one item for longer.
_MOST_SECONDS = 86_400.0
_RATER = re.compile(r"[\w .@+-]{0,64}")


@dataclass(frozen=True)
class Answer:
    """What one rater said of one item: a rating per label and which is best, or the pictures that fit."""

    item: str
    seconds: float
    ratings: Mapping[str, int] = field(default_factory=dict)
    best: str = ""
    chosen: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answers:
    """What one rater said. page: of the study; "" where a platform dealt the items. source: the file."""

    rater: str
    page: str
    answers: tuple[Answer, ...]
    source: str = ""


@dataclass(frozen=True)
class Refused:
    """A file, or a part of one, that holds no answers to this study, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Collected:
    """All answers that count, and what was refused."""

    answers: tuple[Answers, ...]
    refused: tuple[Refused, ...]


def collect(paths: Sequence[Path], study: Study) -> Collected:
    """The answers in files of pages (.json), databases (.db), and exports of MTurk and Label Studio.

    What is no answer to this study is refused and told; the rest counts. Of a page that was answered twice
    the first counts, and of an item that a rater of a platform answered twice, too.
    """
    found: list[Answers] = []
    refused: list[Refused] = []
    pages: dict[str, str] = {}
    for path in paths:
        for given in _answers_in(path, study):
            if isinstance(given, Refused):
                refused.append(given)
            elif given.page and given.page in pages:
                reason = f"page {given.page} was answered already, in {pages[given.page]}"
                refused.append(Refused(given.source, reason))
            else:
                if given.page:
                    pages[given.page] = given.source
                found.append(given)
    kept, doubled = _without_doubles(_told_apart(found))
    return Collected(tuple(kept), (*refused, *doubled))


def read_page(text: str, study: Study, source: str) -> Answers:
    """The answers of one page, as it posts or downloads them.

    Raises:
        UsageError: they are of another study, incomplete, doubled, or hold what no page writes.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"these are no answers of a rating page (format is not {FORMAT!r})")
    _check_study(content.get("study"), study)
    try:
        found = structured(content, _PageFile)
    except ValueError as error:
        raise UsageError(f"a page of raters does not write this: {shortened(str(error))}") from error
    if found.page not in study.by_page:
        raise UsageError(f"the study has no page {shortened(found.page)}")
    rater = found.rater.strip() or found.page
    answers = Answers(rater, found.page, found.answers, source)
    check_answers(answers, study)
    wanted = [turn.item for turn in study.by_page[found.page].turns]
    have = Counter(answer.item for answer in found.answers)
    if missing := [item for item in wanted if item not in have]:
        raise UsageError(
            f"{len(missing)} of {len(wanted)} answers are missing ({', '.join(missing[:3])} ...)"
        )
    if foreign := [item for item in have if item not in wanted]:
        raise UsageError(f"item {foreign[0]} does not belong to page {found.page}")
    return answers


def check_answers(given: Answers, study: Study) -> None:
    """Raises `UsageError` for answers that the study does not ask for."""
    if not _RATER.fullmatch(given.rater):
        raise UsageError(
            f"the rater's name {shortened(given.rater)} must be up to 64 letters, digits, spaces or . @ + - _"
        )
    for item, n in Counter(answer.item for answer in given.answers).items():
        if item not in study.by_item:
            raise UsageError(f"the study has no item {shortened(item)}")
        if n > 1:
            raise UsageError(f"item {item} is answered {n} times")
    for answer in given.answers:
        _check_answer(answer, study.by_item[answer.item])


def _check_answer(answer: Answer, item: Item) -> None:
    if not (math.isfinite(answer.seconds) and 0 <= answer.seconds <= _MOST_SECONDS):
        raise UsageError(f"item {item.id}: seconds={answer.seconds} must lie in 0..86400")
    if item.asks == "pictures":
        places = answer.chosen
        if answer.ratings or answer.best:
            raise UsageError(f"item {item.id} asks for pictures, and labels are rated")
        if len(set(places)) != len(places) or not all(0 <= place < item.pictures for place in places):
            raise UsageError(
                f"item {item.id}: chosen pictures {shortened(list(places))} are not its pictures"
            )
        return
    if answer.chosen:
        raise UsageError(f"item {item.id} asks for ratings, and pictures are chosen")
    if answer.ratings.keys() != item.by_id.keys():
        raise UsageError(f"item {item.id}: not each of its {len(item.labels)} labels is rated")
    if wrong := [rating for rating in answer.ratings.values() if rating not in SCALE]:
        raise UsageError(f"item {item.id}: rating {wrong[0]} must lie in {SCALE[0]}..{SCALE[-1]}")
    wanted = item.by_id.keys() if len(item.labels) > 1 else {"", *item.by_id}
    if answer.best not in wanted:
        raise UsageError(f"item {item.id}: the best label {shortened(answer.best)} is none of its labels")


@dataclass(frozen=True)
class _PageFile:
    format: str
    study: str
    page: str
    rater: str
    answers: tuple[Answer, ...]


def _check_study(given: object, study: Study) -> None:
    if given != study.id:
        raise UsageError(f"these are answers to another study ({shortened(given)}; this one is {study.id})")


def _answers_in(path: Path, study: Study) -> Iterator[Answers | Refused]:
    """What a file holds, in the order in which it stands there."""
    try:
        if path.suffix == ".db":
            yield from _of_database(path, study)
        elif path.suffix == ".csv":
            yield from _of_mturk(path, study)
        else:
            text = read_text(path, "answers")
            if text.lstrip().startswith("["):
                yield from _of_label_studio(text, path, study)
            else:
                yield read_page(text, study, path.name)
    except UsageError as error:
        yield Refused(path.name, str(error))


def _of_database(path: Path, study: Study) -> Iterator[Answers | Refused]:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT page, content FROM answers ORDER BY received").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(f"this is no database of `dnr-bench rate serve`: {error}") from error
    for page, content in rows:
        source = f"{path.name}, page {page}"
        try:
            yield read_page(str(content), study, source)
        except UsageError as error:
            yield Refused(source, str(error))


def _of_mturk(path: Path, study: Study) -> Iterator[Answers | Refused]:
    """A batch's results: a row per assignment, with the columns of items.csv as Input.NAME."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, "answers"), newline="")))
    except csv.Error as error:
        raise UsageError(f"this is no CSV: {error}") from error
    if not rows or not {"WorkerId", "Input.item", "Input.study"} <= set(rows[0]):
        raise UsageError(
            "this is no result of an MTurk batch: WorkerId, Input.item or Input.study is missing"
        )
    for number, row in enumerate(rows, start=2):
        source = f"{path.name}, line {number}"
        try:
            _check_study(row["Input.study"], study)
            item = _item(row["Input.item"], study)
            if row.get("AssignmentStatus") == "Rejected":
                raise UsageError("this assignment was rejected")
            answer = _of_fields(_mturk_fields(row), item, float(row.get("WorkTimeInSeconds") or "nan"))
            given = Answers(row["WorkerId"] or "", "", (answer,), source)
            check_answers(given, study)
            yield given
        except (UsageError, ValueError) as error:
            yield Refused(source, str(error))


def _mturk_fields(row: Mapping[str, str | None]) -> dict[str, str]:
    """What a worker entered, by the name of the control.

    Forms give a column per control, a column per choice that is true or false, or all in one column as JSON.
    """
    found: dict[str, str] = {}
    for key, value in row.items():
        if not key or not key.startswith("Answer.") or not value:
            continue
        name, _, choice = key.removeprefix("Answer.").partition(".")
        if name == "taskAnswers":
            found |= _task_answers(value)
        elif not choice:
            found[name] = value
        elif value.lower() == "true":
            found[name] = choice
    return found


def _task_answers(text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
        (entered,) = content if isinstance(content, list) else [content]
        return {
            str(name): next((c for c, chosen in value.items() if chosen is True), "")
            if isinstance(value, dict)
            else str(value)
            for name, value in entered.items()
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"Answer.taskAnswers holds no answers: {error}") from error


def _of_label_studio(text: str, path: Path, study: Study) -> Iterator[Answers | Refused]:
    """A JSON export: tasks with annotations."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is no JSON: {error}") from error
    for number, task in enumerate(tasks, start=1):
        source = f"{path.name}, task {number}"
        try:
            _check_study(task["data"]["study"], study)
            item = _item(task["data"]["item"], study)
            done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        except UsageError as error:
            yield Refused(source, str(error))
            continue
        except (KeyError, TypeError, AttributeError) as error:
            yield Refused(source, f"this is no task of a Label Studio export: {error!r}")
            continue
        for annotation in done:
            try:
                fields = dict(map(_said, annotation["result"]))
                answer = _of_fields(fields, item, float(annotation["lead_time"]))
                given = Answers(f"annotator {_annotator(annotation)}", "", (answer,), source)
                check_answers(given, study)
                yield given
            except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
                yield Refused(source, str(error) or type(error).__name__)


def _said(region: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a control and what was entered there."""
    value = region["value"]
    said = value["rating"] if "rating" in value else " ".join(value["choices"])
    return str(region["from_name"]), str(said)


def _annotator(annotation: Mapping[str, Any]) -> str:
    by = annotation["completed_by"]
    return str(by["id"] if isinstance(by, Mapping) else by)


def _item(name: object, study: Study) -> Item:
    found = study.by_item.get(str(name))
    if found is None:
        raise UsageError(f"the study has no item {shortened(name)}")
    return found


def _of_fields(fields: Mapping[str, str], item: Item, seconds: float) -> Answer:
    """An answer from the fields of a platform's form: rating_1 ..., best; or chosen. Numbers from 1."""
    if item.asks == "pictures":
        if "chosen" not in fields:
            raise UsageError(f"item {item.id}: the field chosen is missing")
        places = [int(word) - 1 for word in re.split(r"[\s|,]+", fields["chosen"]) if word and word != "none"]
        return Answer(item.id, seconds, chosen=tuple(places))
    said = {label.id: fields.get(f"rating_{n}", "") for n, label in enumerate(item.labels, start=1)}
    if missing := [name for name, value in said.items() if not value.strip()]:
        raise UsageError(f"item {item.id}: {len(missing)} of {len(said)} labels are not rated")
    best = fields.get("best", "").strip()
    if best and not (best.isdecimal() and 0 < int(best) <= len(item.labels)):
        raise UsageError(f"item {item.id}: the best label {shortened(best)} is none of its labels")
    chosen = item.labels[int(best) - 1].id if best else ""
    return Answer(item.id, seconds, {name: int(value) for name, value in said.items()}, chosen)


def _told_apart(given: Sequence[Answers]) -> list[Answers]:
    """Pages under one name that share an item are of different people: their pages tell them apart."""
    asked: dict[str, Counter[str]] = {}
    for answers in given:
        if answers.page:
            asked.setdefault(answers.rater, Counter()).update(answer.item for answer in answers.answers)
    shared = {name for name, items in asked.items() if max(items.values()) > 1}
    return [
        replace(answers, rater=f"{answers.rater} ({answers.page})")
        if answers.page and answers.rater in shared
        else answers
        for answers in given
    ]


def _without_doubles(given: Sequence[Answers]) -> tuple[list[Answers], list[Refused]]:
    """Raters of platforms, each with all that they answered; of an item answered twice the first counts."""
    pages = [answers for answers in given if answers.page]
    raters: dict[str, Answers] = {}
    refused = []
    for answers in given:
        if answers.page:
            continue
        known = raters.get(answers.rater, replace(answers, answers=()))
        seen = {answer.item for answer in known.answers}
        new = tuple(answer for answer in answers.answers if answer.item not in seen)
        refused += [
            Refused(answers.source, f"{answers.rater} answered item {answer.item} already")
            for answer in answers.answers
            if answer.item in seen
        ]
        raters[answers.rater] = replace(known, answers=(*known.answers, *new))
    return [*pages, *raters.values()], refused
