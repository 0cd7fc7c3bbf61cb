"""Apache Airflow provider for Sendoso."""

__version__ = "0.1.0"
