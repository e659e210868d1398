"""A view of the MLflow UI that shows the jobs of one multirun: their settings, and metrics over what varies.

The UI keeps views that people share in tags of the experiment, and opens them by a key in the address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

#: The tag of a view; the key follows.
TAG = "mlflow.sharedViewState."
#: Charts of one view.
_MOST_CHARTS = 6
_SECTION = "comparison"


def view_of_jobs(parent: str, axis: str, series: Sequence[str], metrics: Sequence[str]) -> str:
    """The state of the page: the jobs alone, a chart of each metric over the axis, and one of all together.

    Args:
        parent: the id of the multirun's run.
        axis: the parameter along which the charts go.
        series: other parameters that vary.
        metrics: by their names in MLflow, the main one first.
    """
    shown = metrics[:_MOST_CHARTS]
    columns = [*(f"params.`{name}`" for name in (axis, *series)), *(f"metrics.`{name}`" for name in shown)]
    charts = [_chart(number, axis, metric) for number, metric in enumerate(shown)]
    charts.append(
        {
            **_card("all", "PARALLEL"),
            "selectedParams": [*series, axis],
            "selectedMetrics": list(shown[:3]),
            "showAllRuns": True,
        }
    )
    return json.dumps(
        {
            "searchFilter": f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'",
            # sorted by date, the page would fold the jobs into the parent, and chart the parent's values
            "orderByKey": f"metrics.`{shown[0]}`" if shown else "attributes.`Run Name`",
            "orderByAsc": False,
            "selectedColumns": ["attributes.`Source`", *columns],
            "compareRunCharts": charts,
            "isAccordionReordered": True,  # else sections of the page's own come first
            "compareRunSections": [
                {"uuid": _SECTION, "name": f"over {axis}", "display": True, "isReordered": True,
                 "deleted": False, "isGenerated": False}
            ],
            "runsHiddenMode": "SHOW_ALL",
        }
    )  # fmt: skip


def _chart(number: int, axis: str, metric: str) -> Mapping[str, Any]:
    return {
        **_card(str(number), "SCATTER"),
        "displayName": f"{metric} over {axis}",
        "xaxis": {"key": axis, "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }


def _card(name: str, kind: str) -> Mapping[str, Any]:
    return {"uuid": f"{_SECTION}-{name}", "type": kind, "metricSectionId": _SECTION, "deleted": False,
            "isGenerated": False, "runsCountToCompare": 100}  # fmt: skip
