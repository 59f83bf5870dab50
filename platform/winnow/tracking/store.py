"""Where MLflow keeps its runs, and how to look at them.

``mlflow`` takes seconds to import, so this module imports it in functions only.
"""

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from winnow.errors import WinnowError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
ROLE_TAG = "winnow.role"
UID_TAG = "winnow.uid"
_LOCAL_UI = "http://127.0.0.1:5000"
_MOST_COMPARED = 8

# MLflow itself waits for minutes by default; a lost server must not hold up a step.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PGCONNECT_TIMEOUT": "10",
}
_CREDENTIALS = (
    re.compile(r"://[^/\s]*@"),
    re.compile(r"(?<!https)(?<!http)://[^:/@\s]*:[^@\s]*@"),
    # Of a web address only where no port can be meant.
    re.compile(r"://[^:/@\s]*:(?!\d+[/?#])[^@\s]*@"),
)
_SECRET_PARAMETER = re.compile(
    r"([?&;][^=&;\s]*(?:passw|pwd|passphrase|secret|token|key|credential|odbc_connect)[^=&;\s]*=)[^&\s]+",
    re.IGNORECASE,
)
_MOST_ATTEMPTS = 2
"""To open a database; MLflow's own ten take 100 s, and more if each waits for a lock."""
_REFUSALS = {400, 404, 409, 422}


class TrackerError(Exception):
    """MLflow did not do what was asked. Steps never see it: what it concerns stays in the journal."""


class TrackerUnavailable(TrackerError):
    """MLflow cannot be reached or cannot write now; the same call may work later."""


class EntryRefused(TrackerError):
    """MLflow will never accept this."""


def tracking_uri(output: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or the SQLite file in the output root."""
    return os.environ.get(URI_VARIABLE) or _sqlite_uri(output.resolve() / "mlflow.db")


def _sqlite_uri(path: Path) -> str:
    """A URI that leads to ``path`` whatever letters it has.

    SQLAlchemy decodes ``%20`` and ends a path at ``?``. MLflow makes the folders of an encoded path, unless the
    driver is named.

    >>> _sqlite_uri(Path("/runs/a b#1/mlflow.db")), _sqlite_uri(Path("/runs/a%20b?/mlflow.db"))
    ('sqlite:////runs/a b#1/mlflow.db', 'sqlite+pysqlite:////runs/a%2520b%3F/mlflow.db')
    """
    encoded = str(path).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if encoded == str(path) else f"sqlite+pysqlite:///{encoded}"


def without_credentials(text: str) -> str:
    """``text`` without the user names and passwords of the URIs in it.

    Those of a database may hold ``/``, which ends the host of a web address.

    >>> without_credentials("https://ann:secret@example.org/mlflow")
    'https://example.org/mlflow'
    >>> without_credentials("mysql://ann:sec/ret@h/db?ssl_password=secret&charset=utf8")
    'mysql://h/db?ssl_password=...&charset=utf8'
    """
    for pattern in _CREDENTIALS:
        text = pattern.sub("://", text)
    return _SECRET_PARAMETER.sub(r"\1...", text)


def connect(uri: str) -> "MlflowClient":
    """A client of the tracking store and model registry at ``uri``."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.store.db import utils
    from mlflow.tracking import MlflowClient

    utils.MAX_RETRY_COUNT = _MOST_ATTEMPTS
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Each attempt to open a database, and tracebacks; what comes of them is said by whoever asked.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise ``EntryRefused`` or ``TrackerUnavailable`` for what MLflow, its drivers or the network raise."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (TrackerError, WinnowError):
        raise
    except MlflowException as error:
        kind = EntryRefused if error.get_http_status_code() in _REFUSALS else TrackerUnavailable
        raise kind(_first_line(error)) from error
    except ImportError as error:
        raise TrackerUnavailable(f"its driver is missing: {error}; install that") from error
    except Exception as error:
        # What stores and drivers make of a URI or of a lost connection cannot be foreseen, and stops no step.
        raise TrackerUnavailable(f"{type(error).__name__}: {_first_line(error)}") from error


def experiment_id(client: "MlflowClient", name: str, *, artifacts: Path) -> str:
    """The experiment called ``name``, created if it is not there.

    A server decides where artifacts go; for a store that is a file they go to ``artifacts``.
    """
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is not None:
        return found.experiment_id
    location = None if client.tracking_uri.startswith("http") else artifacts.resolve().as_uri()
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another process was faster.
        return client.get_experiment_by_name(name).experiment_id


def ui_command(uri: str) -> str:
    """What to type, or where to look, to see the runs."""
    if uri.startswith("http"):
        return f"open {without_credentials(uri)}"
    program = Path(sys.executable).parent / "mlflow"
    here = os.path.relpath(program)
    shown = shlex.quote(str(program) if here.startswith("..") else here)
    # A password stays where it is.
    store = shlex.quote(uri) if uri == without_credentials(uri) else f'"${URI_VARIABLE}"'
    return f"{shown} ui --backend-store-uri {store} --host 127.0.0.1 --port 5000"


def compare_link(client: "MlflowClient", experiment: str) -> str:
    """The page that compares the latest whole runs of the experiment with id ``experiment``."""
    with translated_errors():
        runs = client.search_runs([experiment], f"tags.`{ROLE_TAG}` = 'run'", max_results=_MOST_COMPARED)
    base = without_credentials(client.tracking_uri) if client.tracking_uri.startswith("http") else _LOCAL_UI
    run_ids = _as_query([run.info.run_id for run in runs])
    return f"{base.rstrip('/')}/#/compare-runs?runs={run_ids}&experiments={_as_query([experiment])}"


def _as_query(values: list[str]) -> str:
    return quote(json.dumps(values, separators=(",", ":")), safe="")


def _first_line(error: Exception) -> str:
    return without_credentials(str(error).strip().split("\n")[0])[:160]
