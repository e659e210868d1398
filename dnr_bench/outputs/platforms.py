"""The items of a rating study for platforms that have pages of their own: Prolific, Label Studio, MTurk."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from xml.sax.saxutils import quoteattr

from dnr_bench.infra.files import writing
from dnr_bench.outputs.pages.montage import Montage
from dnr_bench.outputs.pages.rater import MEANINGS
from dnr_bench.results.ratings.study import SCALE, Item, Study

_QUESTION = {
    "ratings": "Does each description fit most of these pictures? 1: strongly disagree, 5: strongly agree.",
    "pictures": "Which pictures does the description fit? Count them from left to right, then the next row.",
}


def write_platform_files(folder: Path, study: Study, montages: Mapping[str, Montage], address: str) -> None:
    """Write the pictures, and for each platform a CSV file of items and what shows them.

    One row per item, attention checks among them: a platform deals them to raters itself. `dnr-bench rate
    analyze` reads the results of MTurk and Label Studio, which hold these columns; of Prolific's task builder
    it does not.

    Args:
        folder: of the study.
        study: its items.
        montages: by name; one file each.
        address: under which the folder `pictures` is found on the web; "": as paths.
    """
    for name, montage in montages.items():
        with writing(folder / "pictures" / f"{name}.webp") as partial:
            partial.write_bytes(montage.webp)
    most = max(len(item.labels) for item in study.items)
    rows = [_row(item, study, address, most) for item in study.items]
    asks, pictures = study.asks, max(item.pictures for item in study.items)
    files = {
        "mturk.csv": _csv([{name: escape(cell, quote=False) for name, cell in row.items()} for row in rows]),
        "mturk.html": _mturk(asks, most, pictures),
        "label_studio.csv": _csv(rows),
        "label_studio.xml": _label_studio(asks, most, pictures),
        "prolific.csv": _csv([_for_people(row, asks) for row in rows]),
    }
    for name, content in files.items():
        with writing(folder / "platforms" / name) as partial:
            partial.write_text(content, encoding="utf-8")


def _row(item: Item, study: Study, address: str, most: int) -> dict[str, str]:
    labels = [label.text for label in item.labels] + [""] * (most - len(item.labels))
    base = f"{address.rstrip('/')}/" if address else ""
    return {
        "study": study.id,
        "item": item.id,
        "pictures": f"{base}pictures/{item.montage}.webp",
        **{f"description_{n}": _harmless(text) for n, text in enumerate(labels, start=1)},
    }


def _for_people(row: Mapping[str, str], asks: str) -> dict[str, str]:
    """Prolific shows every column to participants beside the instructions."""
    return {
        "id": f"{row['study']}-{row['item']}",
        **{k: v for k, v in row.items() if k not in ("study", "item")},
        "question": _QUESTION[asks],
    }


def _harmless(text: str) -> str:
    """A label that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mturk(asks: str, most: int, pictures: int) -> str:
    """A page of crowd elements; MTurk puts the columns of the CSV file where their names stand."""
    parts = [
        '<script src="https://assets.crowd.aws/crowd-html-elements.js"></script>',
        '<crowd-form answer-format="flatten-objects">',
        f"<p>{escape(_QUESTION[asks])}</p>",
        '<img src="${pictures}" alt="pictures" style="max-width: 100%">',
    ]
    for n in range(1, most + 1):
        parts.append(f'<div class="label"><p><b>${{description_{n}}}</b></p>')
        if asks == "ratings":
            choices = "".join(
                f'<option value="{value}">{value} {meaning}</option>'
                for value, meaning in zip(SCALE, MEANINGS, strict=True)
            )
            parts.append(f'<select name="rating_{n}"><option value="">–</option>{choices}</select>')
        parts.append("</div>")
    if asks == "ratings" and most > 1:
        choices = "".join(f'<option value="{n}">${{description_{n}}}</option>' for n in range(1, most + 1))
        parts.append(
            f'<p>Best: <select name="best" required><option value="">–</option>{choices}</select></p>'
        )
    if asks == "pictures":
        parts.append('<p>Numbers of the pictures, with spaces, or "none": <input name="chosen" required></p>')
    parts += [
        "<script>for (const one of document.querySelectorAll('.label')) {",
        "  const choice = one.querySelector('select');",
        "  if (!one.querySelector('b').textContent.trim()) one.remove();",
        "  else if (choice) choice.required = true;",
        "}",
        "for (const one of document.querySelectorAll('select[name=best] option'))",
        "  if (!one.textContent.trim()) one.remove();</script>",
        "</crowd-form>",
    ]
    return "\n".join(parts) + "\n"


def _label_studio(asks: str, most: int, pictures: int) -> str:
    """The labeling interface; `$name` stands for a column."""
    parts = [
        "<View>",
        f"  <Header value={quoteattr(_QUESTION[asks])}/>",
        '  <Image name="shown" value="$pictures"/>',
    ]
    for n in range(1, most + 1):
        parts.append(f'  <Text name="text_{n}" value="$description_{n}"/>')
        if asks == "ratings":
            parts.append(f'  <Rating name="rating_{n}" toName="text_{n}" maxRating="{SCALE[-1]}"/>')
    if asks == "pictures":
        parts.append('  <Choices name="chosen" toName="shown" choice="multiple">')
        parts += [f'    <Choice value="{n}"/>' for n in range(1, pictures + 1)]
        parts += ['    <Choice value="none"/>', "  </Choices>"]
    elif most > 1:
        parts.append('  <Header value="Which description is best?"/>')
        parts.append('  <Choices name="best" toName="shown" choice="single">')
        parts += [f'    <Choice value="{n}"/>' for n in range(1, most + 1)]
        parts.append("  </Choices>")
    return "\n".join([*parts, "</View>"]) + "\n"
