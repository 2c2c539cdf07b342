"""A place for curves in the background: it may fail, hang or be slow, and nobody waits for it."""

import logging
import threading

import pytest

from pipelines.tracking import outlet as outlets
from pipelines.tracking.alerts import Alert
from pipelines.tracking.outlet import BackgroundOutlet


class Place:
    """Notes what it is told; fails at one method, or waits there until it is let go."""

    def __init__(self, fails="", waits=""):
        self.fails, self.waits = fails, waits
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.told = []

    def __getattr__(self, method):
        def tell(*args, **words):
            self.told.append((method, *args, *words.values()))
            if method == self.waits:
                self.begun.set()
                self.go_on.wait(30)
            if method == self.fails:
                raise RuntimeError("the service died\nwith details")

        return tell


def methods(place):
    return [method for method, *_ in place.told]


def said(caplog):
    return [record.message for record in caplog.records]


def test_calls_are_made_in_their_order_and_the_end_waits_for_them(caplog):
    place = Place()
    background = BackgroundOutlet("a place", lambda: place, finish_s=30)
    for frames in range(50):
        background.log({"a": 1.0}, frames)
    background.close(failed=True)
    background.log({"a": 1.0}, 51)
    background.close()
    assert place.told == [("log", {"a": 1.0}, i) for i in range(50)] + [("close", True)]
    assert said(caplog) == []


@pytest.mark.parametrize("fails", ["log", "close", "start"])
def test_without_curves_it_is_given_up_said_once_and_ended(caplog, fails):
    place, abandoned = Place(fails), []

    def start():
        if fails == "start":
            raise RuntimeError("no such place")
        return place

    with caplog.at_level(logging.WARNING):
        background = BackgroundOutlet(
            "a place", start, finish_s=30, abandon=lambda: abandoned.append(1)
        )
        for frames in range(3):
            background.log({}, frames)
        background.close()
    assert len(said(caplog)) == 1
    assert f"a place failed ({fails}), going on without it" in said(caplog)[0]
    assert "details" not in said(caplog)[0]
    assert methods(place).count("log") == {"log": 1, "close": 3, "start": 0}[fails]
    assert abandoned == [1]


@pytest.mark.parametrize("fails", ["log_counts", "show", "alert", "keep"])
def test_a_chart_that_fails_takes_no_curve_with_it(caplog, fails):
    place = Place(fails)
    with caplog.at_level(logging.WARNING):
        background = BackgroundOutlet("a place", lambda: place, finish_s=30)
        for frames in range(2):
            background.log({}, frames)
            background.log_counts({}, frames)
            background.show(None, frames)
            background.alert(Alert("a", "b"))
            background.keep([])
        background.close()
    assert said(caplog) == [f"a place: no more {fails}: the service died"]
    assert methods(place).count(fails) == 1
    assert methods(place).count("log") == 2
    assert methods(place)[-1] == "close"


def test_a_process_that_ends_at_once_gives_it_a_moment_and_no_more(caplog, monkeypatch):
    place = Place()
    background = BackgroundOutlet("a place", lambda: place, finish_s=30)
    background.log({}, 1)
    background.leave()
    background.leave()
    assert place.told == [("log", {}, 1), ("close", True)]
    monkeypatch.setattr(outlets, "_MOMENT_S", 0.1)
    hanging = Place(waits="log")
    background = BackgroundOutlet("a place", lambda: hanging, finish_s=30)
    background.log({}, 1)
    assert hanging.begun.wait(30)
    background.leave()
    assert methods(hanging) == ["log"]
    hanging.go_on.set()
    assert said(caplog) == []


def test_the_files_of_a_training_are_kept_however_slow_the_place_was(caplog, monkeypatch):
    monkeypatch.setattr(outlets, "MOST_WAITING", 10)
    place = Place(waits="log")
    with caplog.at_level(logging.WARNING):
        background = BackgroundOutlet("a place", lambda: place, finish_s=30)
        for frames in range(100):
            background.log({}, frames)
        background.keep(["the model"])
        place.go_on.set()
        background.close()
    assert place.told[-2:] == [("keep", ["the model"]), ("close", False)]
    assert "calls were dropped" in said(caplog)[0]


def test_what_hangs_is_left_alone_and_what_it_does_not_take_is_dropped(caplog, monkeypatch):
    monkeypatch.setattr(outlets, "MOST_WAITING", 10)
    monkeypatch.setattr(outlets, "_GRACE_S", 0.0)
    place, abandoned = Place(waits="log"), []
    with caplog.at_level(logging.WARNING):
        background = BackgroundOutlet(
            "a place", lambda: place, finish_s=0.1, abandon=lambda: abandoned.append(1)
        )
        for frames in range(100):
            background.log({}, frames)
        background.close()
    left_alone, dropped = said(caplog)
    assert left_alone == "a place is not done after 0.1 s: it is left alone"
    assert "a place was too slow" in dropped
    assert abandoned == [1]
    place.go_on.set()
    background._thread.join(30)
    assert len(place.told) <= 13


def test_of_what_is_left_alone_nothing_more_is_said_whatever_fails(caplog, monkeypatch):
    monkeypatch.setattr(outlets, "_GRACE_S", 0.0)
    place = Place(fails="show", waits="show")
    with caplog.at_level(logging.WARNING):
        background = BackgroundOutlet("a place", lambda: place, finish_s=0.1)
        background.show(None, 1)
        background.keep([])
        background.close()
        place.go_on.set()
        background._thread.join(30)
    assert said(caplog) == ["a place is not done after 0.1 s: it is left alone"]
    assert methods(place) == ["show"]
