"""The matrix: every Airflow line that is supported, on every Python that both of us support.

    nox --list
    nox --session "tests(3.3, python 3.13)"

``make test`` runs the two ends: the newest Airflow in the environment that everything else runs in, and the oldest as
the session ``oldest``, which is ``make test-oldest`` alone.
"""

import sys

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv"
# As `.venv` is: what the tests fetch into an environment they fetch once.
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

MATRIX = [
    nox.param(python, airflow, id=f"{airflow}, python {python}")
    for airflow, pythons in {
        "2.11": ("3.11", "3.12"),
        "3.0": ("3.11", "3.12"),
        "3.3": ("3.11", "3.12", "3.13", "3.14"),
    }.items()
    for python in pythons
]


@nox.session
@nox.parametrize(("python", "airflow"), MATRIX)
def tests(session: nox.Session, airflow: str) -> None:
    """Run the whole suite on one Airflow and one Python."""
    run_tests(session, airflow)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run it on the oldest Airflow, with the Python that runs nox."""
    if sys.version_info >= (3, 13):
        session.skip("Airflow 2.11 does not run on Python 3.13 and newer")
    run_tests(session, "2.11")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run what needs no warehouse's packages on the lower bounds that ``pyproject.toml`` promises."""
    if sys.version_info >= (3, 13):
        session.skip("the lower bound of Airflow does not run on Python 3.13 and newer")
    session.env["UV_SYSTEM_CERTS"] = "1"
    session.install("--resolution", "lowest-direct", "--editable", ".[postgres,mysql]")
    session.install("--group", "test")
    suites = ["tests/client", "tests/ledger/test_ledger_schema.py", "tests/models"]
    session.run("python", "-m", "pytest", *(session.posargs or suites))


@nox.session
def clouds(session: nox.Session) -> None:
    """Try a ledger in a bucket with Airflow's providers of all clouds, whose packages no other test needs."""
    session.env["UV_SYSTEM_CERTS"] = "1"
    extras = ".[bucket,amazon,google,microsoft-azure,postgres,mysql]"
    session.install("--constraints", "constraints/clouds.txt", "--editable", extras, "--group", "clouds")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/hooks/test_ledger_clouds.py"]))


def run_tests(session: nox.Session, airflow: str) -> None:
    """Install what the tests need with the versions of this Airflow, and run them."""
    constraints = f"constraints/airflow-{airflow}.txt"
    # The machine's certificates, as with `make`: a company's proxy has one of its own.
    session.env["UV_SYSTEM_CERTS"] = "1"
    session.install("--constraints", constraints, "--editable", ".[postgres,mysql]", "--group", "dev")
    session.run("python", "-m", "pytest", *session.posargs)
