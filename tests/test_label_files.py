from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig, run
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.proposals.label_file import LabelFile

BuildRun = Callable[..., RunConfig]


def label_file(file: Path, content: str, **changes: object) -> LabelFile:
    file.write_text(content)
    fields = {
        "path": str(file), "labels": ["label"], "unit_column": "unit", "layer_column": "layer",
        "layer": None, "first_unit": 0,
    }  # fmt: skip
    return LabelFile(**{**fields, **changes})


def test_labels_are_read_best_first_from_any_columns(tmp_path: Path) -> None:
    content = '\ufeffNeuron ID, Label 1,Label 2\n1,"red,  round",\n2,blue,blue\n3,,star\n'
    found = label_file(
        tmp_path / "a.csv",
        content,
        labels=["Label 1", "Label 2"],
        unit_column="Neuron ID",
        layer_column=None,
        layer="fc",
        first_unit=1,
    ).labels_of
    assert found == {
        Neuron("fc", 0): ("red, round",),
        Neuron("fc", 1): ("blue",),
        Neuron("fc", 2): ("star",),
    }


def test_malformed_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    rows = ["fc,x,red", "fc,-1,red", ",3,red", "fc,4,red,round", "fc,5,red", "fc,5,blue"]
    with pytest.raises(UsageError) as error:
        _ = label_file(tmp_path / "a.csv", "layer,unit,label\n" + "\n".join(rows) + "\n").labels_of
    message = str(error.value)
    assert "has 5 malformed rows" in message
    for expected in (
        "line 2: 'x' is no unit; the first one is 0",
        "line 3: '-1' is no unit",
        "line 4: no layer",
        "line 5: more values than columns",
        "line 7: fc:5 was there before",
    ):
        assert expected in message
    with pytest.raises(UsageError, match=r"has 30 malformed rows:(?s:.*)\.\.\. and 20 more"):
        _ = label_file(tmp_path / "a.csv", "layer,unit,label\n" + "fc,x,red\n" * 30).labels_of
    with pytest.raises(UsageError, match=r"'0' is no unit; the first one is 1"):
        _ = label_file(tmp_path / "a.csv", "layer,unit,label\nfc,0,red\n", first_unit=1).labels_of


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("layer,unit\nfc,1\n", {}, r"lacks the columns \['label'\]; it has \['layer', 'unit'\]"),
        ("", {}, r"lacks the columns"),
        ("layer,unit,label\n", {}, "holds no row"),
        ("layer,unit,label\n", {"layer": "fc"}, "name the layer of all rows, or the column"),
        ("layer,unit,label\n", {"first_unit": 2}, "first_unit=2 must be 0 or 1"),
        ("layer,unit,label\n", {"labels": []}, "must name at least one column"),
        ("layer,unit,label\n", {"path": "gone.csv"}, r"path='gone\.csv' cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, content: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _ = label_file(tmp_path / "a.csv", content, **changes).labels_of


def test_labels_from_elsewhere_are_judged_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red circle\nblue star\nstriped ring\n")
    (tmp_path / "labels.csv").write_text("unit,label\n1,red circle\n2,blue star\n")

    def built(*overrides: str) -> RunConfig:
        given = (
            "method=precomputed",
            f"method.path={tmp_path / 'labels.csv'}",
            "method.layer_column=null",
            "method.layer=fc",
            "target=none",
            f"target.layers={{fc:{tmp_path / 'names.txt'}}}",
            "probe=none",
            "neurons.layers=[fc]",
            "evaluator=[fc_layer]",
            f"paths.store={tmp_path / 'store'}",
        )
        return build_run(load_config(*given, *overrides))

    shifted, right = run(built()), run(built("method.first_unit=1"))
    assert [record.unscored is None for record in right.neurons] == [True, True, False]
    assert "no label in" in right.neurons[2].unscored
    for metric in ("clip_cos", "sentence_cos", "bertscore_f1"):
        perfect, wrong = (result.metrics[f"fc_layer.{metric}"] for result in (right, shifted))
        assert perfect.mean == pytest.approx(1.0, abs=1e-5)
        assert (perfect.n, perfect.unscored) == (2, 1)
        assert wrong.mean < 0.95
        assert perfect.judge.startswith("embedded:")
    assert right.probe.images == 0
    with pytest.raises(UsageError, match="the probing set has no images"):
        run(built("evaluator=[neuron_rank]"))
    (tmp_path / "labels.csv").write_text("unit,label\n3,red circle\n")
    with pytest.raises(UsageError, match=r"unit 3 of 'fc', which has 0\.\.2: does the file count from 1"):
        built()
    (tmp_path / "names.txt").write_text("red circle\n\nstriped ring\n")
    with pytest.raises(UsageError, match="has no name in line 2"):
        built()
    (tmp_path / "names.txt").write_text("red circle\n")
    with pytest.raises(UsageError, match=r"has labels for the layers conv, but for none of these neurons"):
        built("method.layer=conv")


@pytest.mark.slow
def test_labels_of_another_method_are_candidates(small_run: BuildRun, tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("layer,unit,label\nconcepts,0,blue\nconcepts,9,striped\n")
    given = ("proposals=label_file", f"proposals.path={tmp_path / 'theirs.csv'}", "evaluator=[]")
    result = run(small_run(*given, "captioner=none", "user_concepts=[Red]"))
    records = {record.unit: record for record in result.neurons}
    assert [(c.text, c.origin) for c in records[0].candidates] == [
        ("Red", "user"),
        ("blue", "method"),
    ]
    assert records[9].labels == ("striped",)
    both = {r.unit: r for r in run(small_run(*given, "captioner=dataset")).neurons}
    assert {"captions", "method"} <= {c.origin for c in both[0].candidates}
    with pytest.raises(UsageError, match="for none of these neurons"):
        small_run(*given, "neurons.units=[5]")
