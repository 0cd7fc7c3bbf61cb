"""``python -m airflow_provider_sendoso``: the commands of :mod:`airflow_provider_sendoso.cli`."""

from airflow_provider_sendoso.cli.commands import main

if __name__ == "__main__":
    main()
