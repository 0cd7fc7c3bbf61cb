"""The plugin as Airflow loads it: on every version, in every process, and next to nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_sendoso.mounting import takes_plugins
from airflow_provider_sendoso.plugins.sendoso import SendosoPlugin

LOAD = """
import json, sys
from airflow.plugins_manager import AirflowPlugin
before = set(sys.modules)
import airflow_provider_sendoso.plugins.sendoso
print(json.dumps(sorted(set(sys.modules) - before)))
"""

OLDER = """
import json, sys
import airflow
airflow.__version__ = sys.argv[1]
from airflow_provider_sendoso.plugins.sendoso import SendosoPlugin
from airflow_provider_sendoso.webhooks.plugin import SendosoWebhooksPlugin
found = [getattr(plugin, what) for plugin in (SendosoPlugin, SendosoWebhooksPlugin)
         for what in ("fastapi_apps", "external_views")]
print(json.dumps(found))
"""


def test_airflow_finds_the_plugin() -> None:
    (found,) = [point for point in entry_points(group="airflow.plugins") if point.name == "sendoso"]
    assert found.load() is SendosoPlugin


def test_loading_it_imports_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD], capture_output=True, text=True, check=True, timeout=600
    )
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    ours = {f"airflow_provider_sendoso{part}" for part in ("", ".mounting", ".plugins", ".plugins.sendoso")}
    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} <= ours


@pytest.mark.parametrize(
    ("airflow", "taken"),
    [
        ("2.11.2", False),
        ("3.0.6", False),
        ("3.1.0", False),
        ("3.1.1", True),
        ("3.2.0", True),
        ("3.3.2", True),
        ("3.4.0b1", True),
        ("10.0.0", True),
    ],
)
def test_airflow_takes_the_plugins_from_3_1_1_on(airflow: str, taken: bool) -> None:
    assert takes_plugins(airflow) == taken


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="here it is an older Airflow: the next tests see what that loads")
@pytest.mark.parametrize("airflow", ["2.11.2", "3.0.6", "3.1.0"])
def test_on_an_older_airflow_neither_plugin_brings_anything(airflow: str) -> None:
    """As ``pip list`` would have it there: the plugins see another version, and all else is the same."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OLDER, airflow], capture_output=True, text=True, check=True, timeout=600
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], [], []]


def test_it_has_pages_where_airflow_can_show_them_and_nothing_elsewhere() -> None:
    if not AIRFLOW_V_3_1_PLUS:
        assert (SendosoPlugin.fastapi_apps, SendosoPlugin.external_views) == ([], [])
        return
    (app,) = SendosoPlugin.fastapi_apps
    assert app["url_prefix"] == "/sendoso"
    places = {view["destination"]: view["href"] for view in SendosoPlugin.external_views}
    assert places == {
        "nav": "sendoso/campaigns",
        "dag_run": "sendoso/run?dag_id={DAG_ID}&run_id={RUN_ID}",
        "task_instance": "sendoso/run?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
    }
    assert len({view["url_route"] for view in SendosoPlugin.external_views}) == 3


def test_airflow_loads_the_plugin_without_complaint() -> None:
    """Airflow's own manager takes it as it is; what it cannot use on an older version, it does not look at."""
    program = "from airflow import plugins_manager as m; import json\n"
    if AIRFLOW_V_3_1_PLUS:
        program += "info, wrong = m.get_plugin_info(), m.get_import_errors()"
    else:
        program += "m.ensure_plugins_loaded(); info, wrong = m.get_plugin_info(['name']), m.import_errors"
    program += "\nprint(json.dumps([[one['name'] for one in info], wrong]))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=600
    )
    names, wrong = json.loads(done.stdout.splitlines()[-1])
    assert "sendoso" in names
    assert wrong == {}
