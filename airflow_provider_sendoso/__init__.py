"""Apache Airflow provider for Sendoso."""

__version__ = "0.1.0"

DEFAULT_CONN_ID = "sendoso_default"
"""The Airflow connection that is used if a DAG names none."""
