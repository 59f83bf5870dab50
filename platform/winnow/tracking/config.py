"""Settings of the experiment tracker."""

from pydantic import Field

from winnow.config import Config, speed_knob


class TrackingConfig(Config):
    """MLflow: ``MLFLOW_TRACKING_URI`` says where, else it is ``mlflow.db`` in the output root."""

    experiment: str = Field(default="winnow", min_length=1)
    """The MLflow experiment that holds the runs."""

    model_name: str = Field(default="winnow", pattern=r"^[\w.-]+$")
    """The registered model whose versions are retriever versions (encoder and index together)."""

    champion_min_gain: float = Field(default=0.005, ge=0)
    """The alias ``champion`` moves to a new version that is better on the same dev questions by at least this much."""

    interval_s: float = speed_knob(5.0, gt=0)
    """How often the journal of a running step is carried over, in seconds."""
