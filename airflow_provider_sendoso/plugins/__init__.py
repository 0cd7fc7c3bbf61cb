"""The pages in Airflow's UI: campaigns, held sends, a person, an account. For Airflow 3.1.1 and newer."""
