"""Pacing and repeating requests, on a clock of the test's own."""

import pytest

from pipelines.market_data.download_config import HttpConfig
from pipelines.market_data.patience import BadAnswerError, BadDataError, Patience
from pipelines.source_error import SourceError


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.sleeps = []

    def sleep(self, seconds):
        """Let the time pass."""
        self.sleeps.append(seconds)
        self.now += seconds


def patient(clock, **config):
    cfg = HttpConfig(**{"pause_s": 0.0, "backoff_s": 1.0, "retries": 3, **config})
    return Patience(cfg, sleep=clock.sleep, clock=lambda: clock.now)


def failing(times, error):
    """A request that fails so many times before it succeeds."""
    left = [times]

    def request():
        if left[0]:
            left[0] -= 1
            raise error
        return "answer"

    return request


def test_a_request_that_fails_is_made_again_after_waits_that_double():
    clock = Clock()
    assert patient(clock).ask("bars", failing(3, BadAnswerError("busy"))) == "answer"
    assert clock.sleeps == [1.0, 2.0, 4.0]


def test_waits_do_not_double_for_ever():
    clock = Clock()
    patient(clock, retries=9).ask("bars", failing(9, BadAnswerError("busy")))
    assert clock.sleeps[-3:] == [60.0, 60.0, 60.0]


def test_what_fails_too_often_is_named_with_its_last_error():
    with pytest.raises(SourceError, match=r"^bars of May: busy; asked 4 times$"):
        patient(Clock()).ask("bars of May", failing(9, BadAnswerError("busy")))
    with pytest.raises(SourceError, match=r"busy; asked once$"):
        patient(Clock(), retries=0).ask("bars", failing(9, BadAnswerError("busy")))


def test_data_that_stay_wrong_are_another_error_than_a_server_that_is_away():
    with pytest.raises(BadDataError, match="wrong checksum"):
        patient(Clock()).ask("x", failing(9, BadAnswerError("wrong checksum", last=BadDataError)))


def test_a_server_is_left_alone_for_as_long_as_it_asks():
    clock = Clock()
    patient(clock).ask("bars", failing(2, BadAnswerError("429", wait_s=7.5)))
    assert clock.sleeps == [7.5, 7.5]


def test_a_server_that_asks_for_hours_is_not_waited_for():
    clock = Clock()
    with pytest.raises(SourceError, match=r"it asks for a wait of 7,200 s"):
        patient(clock).ask("bars", failing(1, BadAnswerError("429", wait_s=7200)))
    assert clock.sleeps == []


def test_two_requests_are_a_pause_apart_and_slow_ones_wait_no_more():
    clock = Clock()
    patience = patient(clock, pause_s=0.5)
    for took in (0.0, 0.2, 0.9, 0.0):
        patience.ask("bars", lambda took=took: setattr(clock, "now", clock.now + took))
    assert clock.sleeps == pytest.approx([0.5, 0.3])


def test_an_error_of_the_program_is_not_repeated():
    clock = Clock()
    with pytest.raises(ZeroDivisionError):
        patient(clock).ask("bars", failing(1, ZeroDivisionError()))
    assert clock.sleeps == []
