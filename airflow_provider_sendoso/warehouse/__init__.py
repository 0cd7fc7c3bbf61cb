"""Queries and tables in the author's own database, through any of Airflow's DB-API hooks."""
