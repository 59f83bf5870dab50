"""Stores that are wrong stop nothing; the store lies where it is said, whatever its path is called."""

import shlex
import shutil
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import Engine, event

from winnow.tracking.journal import Journal
from winnow.tracking.recorder import MlflowRecorder
from winnow.tracking.store import connect, tracking_uri, ui_command, without_credentials

UNUSABLE = {
    "mssql://ann:secret@127.0.0.1:1/db": "its driver is missing: No module named 'pyodbc'; install that",
    "postgresql+nodriver://ann:secret@h/db": "NoSuchModuleError",
    "nosuch://store": "unsupported URI 'nosuch://store'",
    "http://[bad": "ValueError: Invalid IPv6 URL",
    "sqlite:/half": "Could not parse SQLAlchemy URL",
    "sqlite:////proc/mlflow.db": "unable to open database file",
    "databricks-uc": "not supported",
}
ODD_NAMES = ["runs of Ann", "a%20b", "50%", "issue #7", "why?", "it's", 'so "called"', "$HOME;&`x`", "ü ? %41 # '"]


@pytest.fixture
def journal(settings):
    folder = settings.output / "pool" / "aa"
    folder.mkdir(parents=True)
    return Journal(folder / "journal.jsonl")


@pytest.mark.parametrize("uri", UNUSABLE)
def test_a_store_that_cannot_be_used_stops_nothing(settings, journal, monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()

    with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("pool", journal.path):
        journal.params({"depth": 30})
    lines = recorder.how_to_look()

    said = capsys.readouterr()
    assert UNUSABLE[uri] in said.err
    assert said.err.count("\n") == 1
    assert "secret" not in said.err + "".join(lines)
    assert len(lines) == 1
    # MLflow itself tries for 100 s, each time.
    assert time.monotonic() - started < 30


@pytest.fixture
def impatient_database():
    """MLflow waits 20 s for a lock, at the start of a command and at its end; here 0.1 s."""

    def shorten(connection, cursor, statement, *rest):
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), rest[0]

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


def test_a_database_that_another_program_has_locked_stops_nothing(settings, journal, runs, impatient_database, capsys):
    with closing(sqlite3.connect(settings.output / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        with MlflowRecorder(settings, run_name="demo") as recorder, recorder.following("pool", journal.path):
            journal.params({"depth": 30})

        assert "database is locked" in (said := capsys.readouterr().err)
        assert said.count("\n") == 1
        other.execute("ROLLBACK")

    with MlflowRecorder(settings, run_name="next"):
        pass

    assert runs()["pool"].data.params["depth"] == "30"


def test_a_store_that_is_lost_at_the_end_costs_the_link_only(settings, monkeypatch, capsys):
    with MlflowRecorder(settings, run_name="demo") as recorder:
        pass
    with closing(sqlite3.connect(settings.output / "mlflow.db")) as database:
        database.execute("ALTER TABLE tags RENAME TO lost")

    lines = recorder.how_to_look()

    assert len(lines) == 1
    assert "cannot be used now" in capsys.readouterr().err


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_store_lies_in_the_output_and_the_command_leads_to_it(tmp_path, settings, empty_database, capsys, name):
    output = tmp_path / "there" / name
    output.mkdir(parents=True)
    shutil.copy(empty_database, output / "mlflow.db")

    with MlflowRecorder(settings.model_copy(update={"output": output}), run_name="demo"):
        pass

    assert capsys.readouterr().err == ""
    with closing(sqlite3.connect(output / "mlflow.db")) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("demo",)]
    assert [path.name for path in output.parent.iterdir()] == [name]
    program, verb, option, uri, *_ = shlex.split(ui_command(tracking_uri(output)))
    assert (program.endswith("/mlflow"), verb, option) == (True, "ui", "--backend-store-uri")
    assert connect(uri).get_experiment_by_name("winnow") is not None


def test_the_command_for_a_store_with_a_password_lets_the_shell_find_it():
    assert "'" not in ui_command("postgresql://ann:secret@h/db")
    assert ' --backend-store-uri "$MLFLOW_TRACKING_URI" ' in ui_command("postgresql://ann:secret@h/db")


SHOWN = {
    "https://ann:secret@example.org:5000/mlflow": "https://example.org:5000/mlflow",
    "https://ann:sec@ret@example.org": "https://example.org",
    "https://ann:sec/ret@example.org": "https://example.org",
    "https://token-secret@example.org/x": "https://example.org/x",
    "https://example.org:5000/x@y": "https://example.org:5000/x@y",
    "https://example.org/x?access_token=secret&page=2": "https://example.org/x?access_token=...&page=2",
    "postgresql://ann:sec/ret@h:1/db": "postgresql://h:1/db",
    "postgresql://ann:12/secret@h/db": "postgresql://h/db",
    "postgresql+psycopg2://h/db?user=ann&password=sec/ret": "postgresql+psycopg2://h/db?user=ann&password=...",
    "mysql://h/db?passwd=secret&charset=utf8": "mysql://h/db?passwd=...&charset=utf8",
    "mssql+pyodbc:///?odbc_connect=UID%3Dann%3BPWD%3Dsecret": "mssql+pyodbc:///?odbc_connect=...",
    "sqlite:////runs/a:b@c/mlflow.db": "sqlite:////runs/a:b@c/mlflow.db",
    "cannot reach postgresql://ann:secret@h/db; ask ops@h": "cannot reach postgresql://h/db; ask ops@h",
}


@pytest.mark.parametrize("given", SHOWN)
def test_no_password_is_shown(given):
    assert without_credentials(given) == SHOWN[given]
