from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.run import print_result
from dnr_bench.shapes.world import CLASSES

ROWS = [
    ("l1", 0, "red circle"),
    ("l1", 0, "red things"),
    ("l1", 0, "a red shape"),
    ("l1", 1, "striped star"),
    ("l1", 1, "stripes"),
    ("l1", 2, "blue background"),
]


def built(
    tmp_path: Path, labels: dict[int, str], rows: list[tuple[str, int, str]] = ROWS, *more: str
) -> RunConfig:
    lines = [f'{layer},{unit},"{text}"' for layer, unit, text in rows]
    (tmp_path / "people.csv").write_text("layer,unit,summary\n" + "\n".join(lines) + "\n")
    (tmp_path / "labels.csv").write_text(
        "layer,unit,label\n" + "".join(f"l1,{unit},{text}\n" for unit, text in labels.items())
    )
    return build_run(
        load_config(
            "method=precomputed",
            f"method.path={tmp_path / 'labels.csv'}",
            "target=none",
            "target.layers={l1:4}",
            "probe=none",
            "neurons.layers=[l1]",
            "evaluator=[milannotations]",
            f"evaluator.milannotations.path={tmp_path / 'people.csv'}",
            "evaluator.milannotations.constants=[red things]",
            f"paths.store={tmp_path / 'store'}",
            *more,
        )
    )


def test_labels_are_held_against_every_annotation_of_their_unit(tmp_path: Path) -> None:
    config = built(tmp_path, {0: "red", 1: "striped star", 3: "green"})
    result = run(config)
    encoder = config.evaluators["milannotations"].sentence_encoder
    texts = ["red", "striped star", *(text for *_, text in ROWS)]
    vectors = dict(zip(texts, encoder.embed_texts(texts), strict=True))
    metric = result.metrics["milannotations.sentence_cos"]
    by_unit = {
        unit: [float(vectors[label] @ vectors[text]) for _, of, text in ROWS if of == unit]
        for unit, label in ((0, "red"), (1, "striped star"))
    }
    assert (metric.n, metric.unscored) == (2, 1)  # unit 2 has annotations, but no label
    assert metric.mean == pytest.approx(np.mean([np.mean(found) for found in by_unit.values()]), abs=1e-5)
    pairs = [[("red circle", "red things"), ("red circle", "a red shape"), ("red things", "a red shape")],
             [("striped star", "stripes")]]  # fmt: skip
    agreement = np.mean([np.mean([vectors[a] @ vectors[b] for a, b in of_unit]) for of_unit in pairs])
    assert metric.oracle == pytest.approx(agreement, abs=1e-5)
    assert metric.chance < metric.mean
    (table,) = result.tables
    assert {row["labels"] for row in table.rows} >= {
        "labels of this run",
        "the annotators among themselves",
    }


def test_one_word_for_all_can_beat_labels_and_is_named(tmp_path: Path) -> None:
    rows = [("l1", unit, f"red {name.split()[1]}") for unit, name in enumerate(CLASSES[:4]) for _ in range(3)]
    result = run(built(tmp_path, {0: "green star", 1: "blue star", 2: "white ring", 3: "dotted"}, rows))
    metric = result.metrics["milannotations.sentence_cos"]
    assert metric.controls["best_constant"] > metric.mean
    rows = {row["labels"] for row in result.tables[0].rows}
    assert rows >= {"“red” for every unit", "“red things” for every unit"}
    assert metric.controls["constant_red things"] > metric.mean
    names = ["clip_cos", "sentence_cos", "bertscore_f1"]
    assert result.beaten_by("best_constant") == [f"milannotations.{name}" for name in names]
    out = Console(record=True, width=120, file=StringIO())
    print_result(result, tmp_path, {}, out)
    shown = out.export_text()
    assert "does as well as the labels, or better: milannotations.clip_cos" in shown


def test_bertscore_is_the_mean_over_the_annotations(tmp_path: Path) -> None:
    config = built(tmp_path, {0: "red", 1: "striped star"})
    result = run(config)
    matcher = config.evaluators["milannotations"].bert_score
    own = [matcher.f1(["red"] * 3, ["red circle", "red things", "a red shape"]).mean(),
           matcher.f1(["striped star"] * 2, ["striped star", "stripes"]).mean()]  # fmt: skip
    metric = result.metrics["milannotations.bertscore_f1"]
    assert metric.mean == pytest.approx(np.mean(own), abs=1e-5)
    dealt = [matcher.f1(["striped star"] * 3, ["red circle", "red things", "a red shape"]).mean(),
             matcher.f1(["red"] * 2, ["striped star", "stripes"]).mean()]  # fmt: skip
    assert metric.chance == pytest.approx(np.mean(dealt), abs=1e-5)


def test_units_whose_annotators_disagree_can_be_left_out(tmp_path: Path) -> None:
    rows = [("l1", 0, "red circle"), ("l1", 0, "blue star"), ("l1", 1, "red ring"), ("l1", 1, "red ring")]
    more = "evaluator.milannotations.min_agreement=0.99"
    result = run(built(tmp_path, {0: "red circle", 1: "red"}, rows, more))
    assert result.metrics["milannotations.clip_cos"].n == 1
    assert [(n.unit, "milannotations.clip_cos" in n.values) for n in result.neurons] == [
        (0, False), (1, True), (2, False), (3, False)
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"min_agreement=2\.0 must"):
        built(tmp_path, {0: "red"}, rows, "evaluator.milannotations.min_agreement=2.0")


def test_the_table_has_every_layer_and_all_together(tmp_path: Path) -> None:
    rows = [*ROWS, ("l2", 0, "a dotted ring"), ("l2", 0, "a ring"), ("l2", 1, "blue"), ("l2", 1, "a star")]
    of_both = tmp_path / "both.csv"
    of_both.write_text("layer,unit,label\nl1,0,red\nl1,1,stripes\nl2,0,ring\nl2,1,star\n")
    layers = ["+target.layers.l2=2", "neurons.layers=[l1,l2]"]
    result = run(built(tmp_path, {}, rows, *layers, f"method.path={of_both}"))
    metric = result.metrics["milannotations.clip_cos"]
    found = {
        row["layer"]: row for row in result.tables[0].rows
        if (row["metric"], row["labels"]) == ("clip_cos", "labels of this run")
    }  # fmt: skip
    assert {name: row["n"] for name, row in found.items()} == {"all": 4, "l1": 2, "l2": 2}
    assert found["all"]["mean"] == pytest.approx(metric.mean)
    assert found["l2"]["mean"] == pytest.approx(
        np.mean([n.values["milannotations.clip_cos"] for n in result.neurons if n.layer == "l2"])
    )
    assert found["l1"]["mean"] != pytest.approx(found["l2"]["mean"])


def test_what_is_wrong_with_annotations_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is about the layers l9, but none of its units"):
        built(tmp_path, {0: "red"}, [("l9", 0, "red")])
    with pytest.raises(UsageError, match="has 2 malformed rows: lines 2, 3"):
        built(tmp_path, {0: "red"}, [("", 0, "red"), ("l1", 0, " "), ("l1", 0, "red")])
