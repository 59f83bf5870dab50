"""Starts of engines, noted on disk: what of a failed one reaches the driver, and when no more are tried."""

import pytest
import ray.exceptions

from winnow.cluster.starting import MOST_FAILED, EngineStartError, Starts
from winnow.errors import ConfigError


def failing(error):
    def build():
        raise error

    return build


def said_by(starts):
    """What the driver raises when Ray says no more than that an actor died."""
    with pytest.raises(Exception) as caught, starts.explained():
        raise ray.exceptions.RayActorError()
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no memory\n for it"), "RuntimeError: no memory for it"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt:"),
        (ConfigError("model 'x' is not there; name another"), "model 'x' is not there; name another"),
    ],
)
def test_whatever_a_start_fails_of_is_an_ordinary_error_and_known_to_the_driver(tmp_path, error, reason):
    starts = Starts(tmp_path / "starts", at_a_time=1)

    with pytest.raises(EngineStartError):
        starts.judge(failing(error))

    assert str(said_by(starts)) == f"the engine could not be started: {reason}".strip()


def test_a_start_that_succeeds_forgets_those_that_failed(tmp_path):
    starts = Starts(tmp_path / "starts", at_a_time=1)
    with pytest.raises(EngineStartError):
        starts.judge(failing(RuntimeError("the memory is still taken")))

    assert starts.judge(lambda: "a judge") == "a judge"
    assert type(said_by(starts)) is ray.exceptions.RayActorError


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_processes_that_die_while_they_start_are_counted_beside_those_that_are_starting(tmp_path, at_a_time):
    starts = Starts(tmp_path / "starts", at_a_time=at_a_time)
    most_begun = MOST_FAILED + at_a_time - 1
    for number in range(most_begun):
        (tmp_path / "starts").mkdir(exist_ok=True)
        (tmp_path / "starts" / f"begun-{number}").touch()  # left by a process that died with it

    with pytest.raises(EngineStartError, match=f"its process died {most_begun} times while it was loaded"):
        starts.judge(lambda: "a judge")
    assert "too little memory" in str(said_by(starts))

    (tmp_path / "starts" / "begun-0").unlink()
    assert starts.judge(lambda: "a judge") == "a judge"


def test_another_error_of_ray_stays_what_it_is(tmp_path):
    assert type(said_by(Starts(tmp_path / "starts", at_a_time=1))) is ray.exceptions.RayActorError
