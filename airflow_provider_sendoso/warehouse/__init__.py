"""The author's own database, behind any DB-API hook of Airflow's: queries that are read and tables that are written."""
