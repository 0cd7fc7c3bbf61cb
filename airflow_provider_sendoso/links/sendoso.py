"""
The buttons on a task's page that lead to Sendoso.

Airflow 3 reads a link's address from XCom, and Airflow 2.11 calls :meth:`get_link`. A task pushes the address as soon
as it knows it, so the button is there while the task runs, and also when it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class _PushedLink(BaseOperatorLink):
    """A link whose address the task pushes; without an address there is no button."""

    def push(self, context: Context, address: str) -> None:
        """
        Push the address, even with ``do_xcom_push=False``, which concerns only the task's return value.

        :param context: the task's context.
        :param address: the address; it must hold no secret and no personal data.
        """
        if "ti" in context:  # a DAG author's unit test may call execute({}), which has no task instance
            context["ti"].xcom_push(key=self.xcom_key, value=address)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """
        Return the address, or ``""``; Airflow 3 calls this once when the task has ended, and pushes the result again.

        :param operator: the task.
        :param ti_key: key of the task instance.
        """
        from airflow.providers.common.compat.sdk import XCom  # heavy, so not imported while a DAG file is parsed

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class SendosoLink(_PushedLink):
    """Links to the connection's base URL: Sendoso's web application (inferred), or the sandbox's page."""

    name = "Sendoso"
    xcom_key = "sendoso_link"


class OnHoldLink(_PushedLink):
    """Links to the connection's base URL while Sendoso holds sends until a manager approves or cancels them."""

    name = "On hold at Sendoso"
    xcom_key = "sendoso_on_hold_link"


class TrackingLink(_PushedLink):
    """Links to the send's tracking page, if Sendoso's answer names one (published for eGifts; else inferred)."""

    name = "Gift tracking"
    xcom_key = "sendoso_tracking_link"
