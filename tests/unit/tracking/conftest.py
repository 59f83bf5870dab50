"""A real MLflow on SQLite for each test; its tables are made once, because that takes seconds."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from winnow.config import Config
from winnow.tracking.config import TrackingConfig
from winnow.tracking.store import connect


class Settings(Config):
    """The least a recorder needs, and two settings to find again."""

    output: Path
    tracking: TrackingConfig = TrackingConfig(interval_s=0.2)
    batch_size: int = 8
    api_key: str = "sk-very-secret"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    output = tmp_path / "runs"
    output.mkdir()
    shutil.copy(empty_database, output / "mlflow.db")
    return Settings(output=output)


@pytest.fixture
def client(settings: Settings) -> MlflowClient:
    return connect(f"sqlite:///{settings.output / 'mlflow.db'}")


@pytest.fixture
def runs(client: MlflowClient):
    """All runs there are, by name; a name that occurs twice is an error."""

    def read() -> dict:
        experiment = client.get_experiment_by_name("winnow")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        named = {run.info.run_name: run for run in found}
        assert len(named) == len(found), sorted(run.info.run_name for run in found)
        return named

    return read


@pytest.fixture
def history(client: MlflowClient):
    """All values ever logged of a metric, as (step, value)."""

    def read(run, key: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]

    return read
