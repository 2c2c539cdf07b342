"""Alerts: each begins once, and none is given for what is usual."""

import math

import pytest

from pipelines.config import compose_config
from pipelines.tracking.alerts import SLOW_IN_A_ROW, AlertWatch
from pipelines.tracking.tracking_config import AlertConfig


def titles(watch, **values):
    names = {"kl": "train/approx_kl", "entropy": "train/entropy_direction",
             "ruin": "rollout/ruin_share", "sps": "time/sps", "loss": "train/loss"}  # fmt: skip
    found = watch.look({names[key]: value for key, value in values.items()}, 1_000)
    return [alert.title for alert in found]


@pytest.mark.parametrize(
    ("title", "key", "well", "ill"),
    [
        ("KL divergence", "kl", 0.1, 0.11),
        ("entropy collapse", "entropy", 0.05, 0.04),
        ("ruin", "ruin", 0.2, 0.21),
        ("not a number", "loss", -1e9, math.nan),
        ("not a number", "loss", 1e9, math.inf),
    ],
)
def test_a_thing_is_said_when_it_begins_and_again_when_it_has_been_well(title, key, well, ill):
    watch = AlertWatch(AlertConfig())
    assert titles(watch, **{key: well}) == []
    assert titles(watch, **{key: ill}) == [title]
    assert titles(watch, **{key: ill}) == []
    assert titles(watch, sps=1.0) == []
    assert titles(watch, **{key: ill}) == [], "another metric changes nothing"
    assert titles(watch, **{key: well}) == []
    assert titles(watch, **{key: ill}) == [title]


def test_the_sentence_names_metric_value_limit_and_frame():
    (alert,) = AlertWatch(AlertConfig()).look({"rollout/ruin_share": 0.5}, 12_345)
    assert alert.text == "rollout/ruin_share is 0.5, above 0.2 at frame 12,345"
    (alert,) = AlertWatch(AlertConfig()).look({"a": math.nan, "b": 1.0, "c": -math.inf}, 1)
    assert alert.text == "a, c: not a number at frame 1"


def test_numbers_that_are_none_last_metric_by_metric():
    watch = AlertWatch(AlertConfig())

    def texts(**values):
        return [alert.text for alert in watch.look(values, 1)]

    assert texts(a=math.nan, b=1.0) == ["a: not a number at frame 1"]
    assert texts(c=1.0) == [], "a log without it does not end it"
    assert texts(a=math.inf, b=math.nan) == ["b: not a number at frame 1"]
    assert texts(a=1.0) == []
    assert texts(a=math.nan, b=math.nan) == ["a: not a number at frame 1"]


def test_a_slowdown_must_last_and_is_measured_against_what_was_usual():
    watch = AlertWatch(AlertConfig(slowdown_after=5))
    assert [titles(watch, sps=1.0) for _ in range(3)] == [[]] * 3, "nothing is usual yet"
    assert [titles(watch, sps=100.0) for _ in range(5)] == [[]] * 5
    assert titles(watch, sps=10.0) == [], "one iteration has saved and judged a checkpoint"
    assert titles(watch, sps=100.0) == []
    slow = [titles(watch, sps=49.0) for _ in range(4 * SLOW_IN_A_ROW)]
    assert slow == [[]] * (SLOW_IN_A_ROW - 1) + [["slowdown"]] + [[]] * 3 * SLOW_IN_A_ROW
    assert titles(watch, sps=51.0) == []


def test_null_turns_an_alert_off_and_limits_are_checked():
    off = AlertConfig(kl=None, entropy=None, ruin_share=None, slowdown=None, slowdown_after=1)
    watch = AlertWatch(off)
    for sps in (100.0, 1.0, 1.0, 1.0, 1.0):
        assert titles(watch, kl=9.0, entropy=0.0, ruin=1.0, sps=sps) == []
    assert compose_config("ppo_transformer", ["alerts.kl=null"]).alerts.kl is None
    for word in ("alerts.kl=-1", "alerts.entropy=2", "alerts.slowdown=1.5", "alerts.ruin_share=2"):
        with pytest.raises(ValueError, match=word.split("=")[0]):
            compose_config("ppo_transformer", [word])
    with pytest.raises(ValueError, match="slowdown_after"):
        AlertConfig(slowdown_after=0)
