"""What Airflow stores of a task's rendered templates, for everybody who may view the task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

sys.path.insert(0, str(Path(__file__).parent))
from conftest import MARK, cells, recipient
from test_marks import MEETING, PICK, TEA, batch, gift

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields as rendered
else:
    from airflow.models.renderedtifields import get_serialized_template_fields as rendered


@pytest.mark.parametrize(
    "operator",
    [
        gift(1),
        batch(sql=None, conn_id=None, recipients=[recipient(1)]),
        batch(sql="SELECT * FROM champions WHERE email = %(email)s", parameters={"email": cells(1)[3]}),
    ],
    ids=["one gift", "recipients", "parameters"],
)
def test_nobody_is_in_what_the_templates_were_rendered_to(operator: object) -> None:
    assert MARK in repr([getattr(operator, name) for name in operator.template_fields])  # type: ignore[attr-defined]
    stored = rendered(operator)  # type: ignore[arg-type]
    assert MARK not in json.dumps(stored)
    assert stored["gift_id"] == "gift-mug"
    assert "<not shown>" in stored.values()


@pytest.mark.parametrize("kind", [TEA, PICK], ids=["marketplace", "smart_send"])
@pytest.mark.parametrize("make", [lambda **arguments: gift(1, **arguments), batch], ids=["one gift", "batch"])
def test_neither_sender_nor_meeting_of_a_product_is_shown(make: Any, kind: dict[str, Any]) -> None:
    operator = make(**kind, meeting_url=MEETING)
    stored = rendered(operator)
    assert MARK not in json.dumps(stored)
    assert stored["meeting_url"] == "<not shown>"


def test_what_is_the_same_for_everybody_is_shown() -> None:
    stored = rendered(batch())
    assert (stored["message"], stored["metadata"]) == ("{note}, {first_name}", {"campaign": "q4"})
