"""The provider at work on one machine: a real Airflow and PostgreSQL, and a local stand-in for Sendoso."""
