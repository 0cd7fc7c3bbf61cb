"""
The buttons on a task's page that lead to Sendoso.

Airflow 3 shows what a task has pushed as XCom, 2.11 asks :meth:`get_link`; so a task pushes the address as soon as it
knows it, and the button is there while the task runs, and when it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class _PushedLink(BaseOperatorLink):
    """A link whose address the task pushes; there is no button where it has not."""

    def push(self, context: Context, address: str) -> None:
        """
        Push the address, also with ``do_xcom_push=False``, which is about what a task returns.

        :param context: the task's.
        :param address: without a secret and without anybody's name in it.
        """
        if "ti" in context:  # somebody's unit test may call execute({}), and has no page to put a button on
            context["ti"].xcom_push(key=self.xcom_key, value=address)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """
        Return the address, or nothing; Airflow 3 asks once when the task has ended, and pushes the answer again.

        :param operator: the task.
        :param ti_key: the task's instance.
        """
        from airflow.providers.common.compat.sdk import XCom  # heavy, and not for a DAG file's parser

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""


class SendosoLink(_PushedLink):
    """The connection's base URL: Sendoso, or the sandbox's page (that people find Sendoso there is inferred)."""

    name = "Sendoso"
    xcom_key = "sendoso_link"


class TrackingLink(_PushedLink):
    """Where a send can be followed, if the answer to it says so (published for eGifts; else inferred)."""

    name = "Gift tracking"
    xcom_key = "sendoso_tracking_link"
