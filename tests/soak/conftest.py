"""The soak kills the supervisors and tasks of Airflow 3.3, and stands in for its execution API."""

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

collect_ignore = [] if AIRFLOW_V_3_3_PLUS else ["test_soak.py"]
