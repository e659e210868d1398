"""What a rating study found, as one typed record: the one reader and writer of ratings.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dnr_bench.data.scorecard import Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.plain_values import structured
from dnr_bench.infra.text_files import read_text
from dnr_bench.results.ratings.analysis import LabelRating
from dnr_bench.results.schema import finite

#: Raise it whenever a field is added, removed or read in another way.
SCHEMA: Literal[1] = 1
NAME = "ratings.json"


@dataclass(frozen=True)
class RatingResult:
    """title, study: of the study, its id; "" for a table of others. asks: "ratings" or "pictures".

    labels: each rated label. chance: the mean rating of labels of other neurons, None where none were shown.
    tables: for people. figures: for MLflow. pages: how many there are, and how many were answered.
    """

    title: str
    study: str
    asks: Literal["ratings", "pictures"]
    labels: tuple[LabelRating, ...]
    chance: float | None
    tables: tuple[Table, ...]
    figures: Mapping[str, float]
    pages: tuple[int, int]
    schema: Literal[1] = SCHEMA

    def write(self, folder: Path) -> Path:
        """Write ratings.json, whole or not at all."""
        path = folder / NAME
        with writing(path) as partial:
            partial.write_text(json.dumps(finite(asdict(self)), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> RatingResult:
        """The result in a file or folder.

        Raises:
            UsageError: there is none, or the file holds something else.
        """
        file = path / NAME if path.is_dir() else path
        try:
            found = structured(json.loads(read_text(file, "ratings")), cls)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is no result of `dnr-bench rate analyze`: {error}") from error
        return found
