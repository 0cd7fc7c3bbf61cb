"""Airflow's plugins; every process of Airflow imports them at its start, so they import nearly nothing."""
