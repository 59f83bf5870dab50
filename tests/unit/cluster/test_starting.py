"""Starts of engines, noted on disk: which failures another process tries to make good, and when no more are tried."""

import pytest

from winnow.cluster.starting import MOST_FAILED, EngineStartError, Starts
from winnow.engines.protocol import EngineDeadError
from winnow.errors import ConfigError


def failing(error):
    def build():
        raise error

    return build


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no memory\n for it"), "RuntimeError: no memory for it"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("x"), "KeyboardInterrupt: x"),
        (EngineDeadError("it could not be loaded"), "it could not be loaded"),
    ],
)
def test_a_start_that_fails_is_tried_by_other_processes_and_then_explained(tmp_path, error, reason):
    starts = Starts(tmp_path / "starts", at_a_time=1)

    for _ in range(MOST_FAILED - 1):
        with pytest.raises(RuntimeError):  # Ray replaces the actor
            starts.judge(failing(error))
    for _ in range(2):
        with pytest.raises(EngineStartError, match=f"could not be started, 3 times: {reason}"):
            starts.judge(failing(error))


def test_what_is_said_to_the_user_is_said_at_once_and_counts_as_nothing(tmp_path):
    starts = Starts(tmp_path / "starts", at_a_time=1)

    for _ in range(MOST_FAILED + 1):
        with pytest.raises(ConfigError, match=r"^model 'x' is not there; name another$"):
            starts.judge(failing(ConfigError("model 'x' is not there; name another")))


def test_a_start_that_succeeds_forgets_those_that_failed(tmp_path):
    starts = Starts(tmp_path / "starts", at_a_time=1)

    for _ in range(2 * MOST_FAILED):
        with pytest.raises(RuntimeError):
            starts.judge(failing(RuntimeError("the memory is still taken")))
        assert starts.judge(lambda: "a judge") == "a judge"


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_processes_that_die_while_they_start_are_counted_beside_those_that_are_starting(tmp_path, at_a_time):
    starts = Starts(tmp_path / "starts", at_a_time=at_a_time)
    (tmp_path / "starts").mkdir()
    for number in range(MOST_FAILED + at_a_time - 1):
        (tmp_path / "starts" / f"start-{number}").touch()  # left by a process that died with it

    with pytest.raises(EngineStartError, match=f"{MOST_FAILED + at_a_time - 1} times: its process died"):
        starts.judge(lambda: "a judge")
    (tmp_path / "starts" / "start-0").unlink()
    assert starts.judge(lambda: "a judge") == "a judge"
