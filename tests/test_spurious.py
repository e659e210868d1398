from __future__ import annotations

from pathlib import Path

import pytest

from dnr_bench.command_line import composed
from dnr_bench.config import build_run
from dnr_bench.errors import UsageError
from dnr_bench.run import run
from evaluators.spurious import Spurious


def test_terms_are_counted_as_whole_words_over_labelled_units(tmp_path: Path) -> None:
    labels = ["Fishing boats", "fish", "pinkish", "a PINK sky", "purple"]
    rows = "".join(f"l,{unit},{label}\n" for unit, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text(f"layer,unit,label\n{rows}")
    result = run(
        build_run(
            composed(
                "method=precomputed",
                f"method.path={tmp_path / 'labels.csv'}",
                "target=none",
                "target.layers={l:6}",
                "probe=none",
                "neurons.layers=[l]",
                "evaluator=[spurious]",
                "evaluator.spurious.terms={fishing:[fishing],colours:[pink,purple],background:[background]}",
                f"paths.store={tmp_path / 'store'}",
            )
        )
    )
    found = {name: (metric["mean"], metric["n"]) for name, metric in result.metrics.items()}
    assert found == {
        "spurious.fishing": (pytest.approx(0.2), 5),
        "spurious.colours": (pytest.approx(0.4), 5),
        "spurious.background": (0.0, 5),
    }
    assert result.metrics["spurious.fishing"]["low"] < 0.2 < result.metrics["spurious.fishing"]["high"]


def test_wrong_terms_are_named() -> None:
    with pytest.raises(UsageError, match="must name at least one term"):
        Spurious({})
    with pytest.raises(UsageError, match=r"terms\.water='boat' must be a list of words"):
        Spurious({"water": "boat"})
    with pytest.raises(UsageError, match=r"terms\.water=\['boat', ''\] must be a list of words"):
        Spurious({"water": ["boat", ""]})
    with pytest.raises(UsageError, match="names must differ"):
        Spurious({"wa ter": ["boat"], "wa_ter": ["sea"]})
