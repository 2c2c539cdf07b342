"""The check of a file: its page stands alone and says what training says, in exit codes, too."""

import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from envs.bars import load_bars
from envs.data_config import DataConfig
from envs.splits import tradable_runs
from envs.table import build_table
from html_document import Document
from pipelines.check_data import main
from pipelines.config import compose_config
from pipelines.exit_codes import DISK, REFUSED
from pipelines.market_data.data_figure import MAX_POINTS, merge_points
from pipelines.price_decimals import IN_FULL

WORDS = ("env.episode_bars=30", "env.window=16")


def market(count=4000, seed=0):
    """A walk of one-minute bars with holes, duplicates, silence and one spike."""
    rng = np.random.default_rng(seed)
    close = np.round(30_000 * np.exp(np.cumsum(rng.normal(0, 0.0004, count))), 1)
    open_ = np.r_[30_000.0, close[:-1]]
    frame = pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-03-01", periods=count, freq="min", tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) + 2.0,
            "low": np.minimum(open_, close) - 2.0,
            "close": close,
            "volume": rng.integers(1, 9, count).astype(float),
        }
    )
    frame.loc[700, "high"] *= 1.05
    frame.loc[900:930, "volume"] = 0.0
    frame = frame.drop(index=[*range(1500, 1502), *range(2500, 2560)])
    return pd.concat([frame, frame.iloc[[100, 200]]])


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """The market's file, the page and the JSON."""
    folder = tmp_path_factory.mktemp("looked")
    path = folder / "bars.parquet"
    market().to_parquet(path)
    words = [f"data.path={path}", f"out={folder / 'new' / 'out'}", *WORDS]
    assert main(compose_config("check_data", words)) == 0
    html = (folder / "new" / "out" / "bars.parquet.html").read_text("utf-8")
    return path, html, json.loads((folder / "new" / "out" / "bars.parquet.json").read_text("utf-8"))


@pytest.fixture
def check(tmp_path, capsys):
    """Checks bars; returns the exit code, what was printed, the page and the JSON."""

    def run(frame, *words, name="bars.parquet"):
        path = tmp_path / name
        if frame is not None:
            frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        cfg = compose_config(
            "check_data", [f"data.path={path}", f"out={tmp_path / 'out'}", *WORDS, *words]
        )
        try:
            code = main(cfg)
        except SystemExit as ended:
            return ended.code, capsys.readouterr(), None, None
        html = (tmp_path / "out" / f"{name}.html").read_text("utf-8")
        plain = json.loads((tmp_path / "out" / f"{name}.json").read_text("utf-8"))
        return code, capsys.readouterr(), html, plain

    return run


def test_the_json_says_what_was_drawn_into_the_file(looked):
    found = looked[2]
    assert (found["present_bars"], found["expected_bars"]) == (3938, 4000)
    assert found["coverage_frac"] == pytest.approx(3938 / 4000)
    assert [hole["missing_bars"] for hole in found["holes"]["rows"]] == [60, 2]
    assert found["duplicates"]["total"] == 2
    assert found["duplicates"]["rows"][0]["rows"] == [101, 3939]
    assert found["silent"]["rows"][0]["bars"] == 31
    assert found["silent_bars"] == 31
    assert [row["time"] for row in found["outliers"]["rows"]] == ["2024-03-01T11:40:00+00:00"]
    assert found["outliers"]["rows"][0]["came_back"]
    assert [row["bars"] for row in found["segments"]["rows"]] == [2500, 1440]
    assert found["refusal"] == ""


def test_segments_and_splits_are_those_that_a_training_uses(looked):
    path, _, found = looked
    data = DataConfig(path=str(path))
    table = build_table(data, window=16, episode_bars=30)
    assert found["report"] == {
        key: value for key, value in table.meta.report.items() if key in found["report"]
    }
    for row in found["splits"]:
        first, end = table.meta.splits[row["split"]]
        runs = tradable_runs(table.tradable, table.segment, (first, end))
        assert row["bars"] == end - first
        assert row["tradable_bars"] == table.meta.report[f"{row['split']}_tradable_bars"]
        assert row["runs"] == len(runs)
        # Starts as `envs.episodes` draws them: a window behind and an episode ahead.
        assert row["starts"] == sum(max(0, int(b - a) - 46 + 1) for a, b in runs)
    segments = load_bars(data).segment
    assert [r["bars"] for r in found["segments"]["rows"]] == np.bincount(segments).tolist()
    assert sum(r["tradable_bars"] for r in found["segments"]["rows"]) == int(table.tradable.sum())


def test_the_page_holds_the_json_and_asks_nobody_for_anything(looked):
    _, html, found = looked
    page = Document(html)
    assert not page.open
    assert json.loads(page.texts["quality"]) == found
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", html)
    (policy,) = [a["content"] for t, a in page.elements if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    for words in ("A training would use these bars", "2024-03-02 17:39", "ends a segment"):
        assert words in page.texts[None]


def test_the_page_knows_light_and_dark_and_narrow(looked):
    html = looked[1]
    assert "prefers-color-scheme: dark" in html
    assert "@media (max-width: 600px)" in html
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


def test_the_calendar_has_a_cell_a_day_and_the_chart_every_split(looked):
    _, html, found = looked
    figures = json.loads(Document(html).texts["figures"])
    (calendar,) = figures["calendar"]["data"]
    assert calendar["y"] == ["2024-03"]
    assert calendar["z"][0][:4] == [5, 3, 5, None]  # all, from 90 %, all, no day
    assert "1,378 of 1,440 bars" in calendar["text"][0][1]
    shapes = figures["prices"]["layout"]["shapes"]
    spans = [(shape["x0"], shape["x1"]) for shape in shapes[::2]]
    assert spans == [(row["first"][:19], row["last"][:19]) for row in found["splits"]]


def test_a_name_that_is_markup_stays_text(check):
    _, _, html, _ = check(market(), "data.asset=<script>alert(1)</script>", name="a<b>&c.parquet")
    assert "<script>alert" not in html
    assert "a<b>" not in html
    assert Document(html).open == []


def test_the_summary_names_splits_and_page(check):
    _, printed, _, _ = check(market())
    lines = printed.out.splitlines()
    assert lines[0].startswith("3,940 bars of 60 s, 2024-03-01")
    assert "Coverage: 98.45 %" in lines
    assert any(line.startswith("test: ") and line.endswith(" starts") for line in lines)
    assert lines[-1].endswith("out/bars.parquet.html")


def counts(pattern, text):
    """The numbers of a pattern's only match."""
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return [int(number.replace(",", "")) for number in found]


def test_counts_that_are_printed_agree_or_say_what_lies_between_them(capsys, tmp_path):
    """On the embedded bars, which have everything: what was filled, dropped, and left out."""
    main(compose_config("check_data", [f"out={tmp_path}"]))
    text = capsys.readouterr().out
    bars, _ = counts(r"^([\d,]+) bars of (\d+) s", text)
    silent, of_these = counts(r"; ([\d,]+) bars without volume, (\d+) of them filled in$", text)
    present, filled = counts(r"^Bars: ([\d,]+) of 15 min \+ (\d+) filled in$", text)
    assert bars == present + filled
    assert counts(r"^Missing bars: ([\d,]+) \((\d+) filled in\)$", text)[1] == filled == of_these
    assert counts(r"^Without volume: ([\d,]+) \((\d+)", text)[0] == silent - filled
    times, forming = counts(r"^Duplicate times: (\d+) \((\d+) still being formed\)$", text)
    dropped = re.findall(r"^(?:identical|duplicates with another).*: (\d+)$", text, re.MULTILINE)
    assert times - forming == sum(map(int, dropped))
    splits = re.findall(r"tradable bars of ([\d,]+)(?: after an embargo of (\d+))?,", text)
    assert len(splits) == 3
    assert sum(int(n.replace(",", "") or 0) for row in splits for n in row) == bars


def test_a_file_without_a_fault_has_short_numbers(check):
    _, printed, _, _ = check(market().iloc[:1500].drop_duplicates("timestamp"))
    for line in ("Bars: 1,500 of 1 min", "Missing bars: 0", "Duplicate times: 0"):
        assert line in printed.out.splitlines()


def test_a_file_that_is_too_short_for_training_is_shown_with_the_reason(check):
    code, printed, html, found = check(market().iloc[:450], "env.episode_bars=240")
    assert code == 1
    assert "a training would refuse: bars.parquet: the train split has" in printed.out
    assert "A training would refuse these bars." in html
    assert "No splits" in html
    assert found["splits"] == []
    assert found["refusal"].startswith("bars.parquet: the ")


def test_a_file_of_two_bars_has_a_page(check):
    code, _, html, found = check(market().iloc[:2])
    assert (code, found["present_bars"]) == (1, 2)
    assert Document(html).open == []


def test_a_file_that_the_loader_refuses_leaves_one_line_and_no_page(check, tmp_path):
    frame = market()
    frame.iloc[6, 3] = 0.0
    code, printed, _, _ = check(frame)
    assert code == 2
    assert printed.err == (
        "error: bars.parquet, row 7 (2024-03-01T00:06:00+00:00): a price is not above 0: "
        f"open={frame.iloc[6, 1]:.12g}, high={frame.iloc[6, 2]:.12g}, low=0, "
        f"close={frame.iloc[6, 4]:.12g}, volume={frame.iloc[6, 5]:.12g}\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.path=nowhere.csv"], "data.path='nowhere.csv' does not exist"),
        (["data.path=."], "is a folder without a manifest.json"),
    ],
)
def test_a_missing_file_is_one_line(check, words, message):
    code, printed, _, _ = check(None, *words)
    assert (code, message in printed.err) == (2, True)
    assert printed.err.count("\n") == 1


def test_prices_of_a_coin_of_a_millionth_are_shown_in_decimals(check):
    frame = market()
    prices = ["open", "high", "low", "close"]
    frame[prices] = (frame[prices] * 1e-11).round(12)
    _, _, html, found = check(frame)
    (outlier,) = found["outliers"]["rows"]
    figures = json.loads(Document(html).texts["figures"])
    assert f"<td>{outlier['price']:.12f}</td>" in html
    assert figures["prices"]["layout"]["yaxis"]["tickformat"] == IN_FULL
    lines = [trace for trace in figures["prices"]["data"] if trace["name"] == "close"]
    assert [IN_FULL in trace["hovertemplate"] for trace in lines] == [True]


def test_a_full_disk_is_not_said_of_the_file(check, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, printed, _, _ = check(market())
    assert (code, "No space left" in printed.err) == (DISK, True)


def test_a_file_where_the_page_should_be_is_refused(check, tmp_path):
    (tmp_path / "out").write_text("")
    code, printed, _, _ = check(market())
    assert (code, str(tmp_path / "out") in printed.err) == (REFUSED, True)


def test_a_generated_market_is_no_file(check):
    with pytest.raises(ValueError, match=r"data\.synthetic\.market='ar1' is not allowed"):
        compose_config("check_data", ["data.synthetic.market=ar1"])


def test_several_markets_are_checked_under_the_splits_that_they_share(tmp_path, capsys):
    late = market(seed=1).assign(timestamp=lambda f: f["timestamp"] + pd.Timedelta("6h"))
    files = []
    for name, frame in (("BTC/USD", market()), ("ETH/USD", late)):
        path = tmp_path / name[:3] / "bars.parquet"
        path.parent.mkdir()
        frame.round({"open": 1, "high": 1, "low": 1, "close": 1}).to_parquet(path)
        files.append(f"{name}={path}")
    words = [f"data.assets=[{','.join(files)}]", f"out={tmp_path / 'out'}", *WORDS]
    cfg = compose_config("check_data", words)
    assert main(cfg) == 0
    joint = build_table(cfg.data, window=16, episode_bars=30)
    said = capsys.readouterr().out.splitlines()
    for name in ("BTC/USD", "ETH/USD"):
        stem = tmp_path / "out" / name.replace("/", "-")
        plain = json.loads(stem.with_suffix(".json").read_text("utf-8"))
        table = joint.one_asset(name)
        assert plain["asset"] == name
        for row in plain["splits"]:
            first, end = table.meta.splits[row["split"]]
            times = [pd.Timestamp(row[key]).value for key in ("first", "last")]
            assert times == [int(table.timestamp[first]), int(table.timestamp[end - 1])]
        assert f"{name}: {stem.with_suffix('.html')}" in said
        assert name in stem.with_suffix(".html").read_text("utf-8")
    # One of them alone is cut elsewhere.
    alone = build_table(DataConfig(path=files[1][8:]), window=16, episode_bars=30)
    assert alone.meta.splits != joint.one_asset("ETH/USD").meta.splits


def test_markets_that_a_training_would_not_join_have_their_pages_all_the_same(tmp_path, capsys):
    early, late = market(), market(seed=1)
    late["timestamp"] += pd.Timedelta("9D")
    for name, frame in (("a", early), ("b", late)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
    files = f"data.assets=[{tmp_path}/a.parquet,{tmp_path}/b.parquet]"
    assert main(compose_config("check_data", [files, f"out={tmp_path / 'out'}", *WORDS])) == 1
    assert capsys.readouterr().out.count("a training would refuse: ") == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a.html", "a.json", "b.html", "b.json"
    }  # fmt: skip


def test_what_a_training_would_use_counts_the_warm_up_of_coarser_bars(check, tmp_path):
    tradable = []
    for timeframes, word in ((None, "null"), (["30min"], "[30min]")):
        code, _, _, plain = check(market(), f"data.timeframes={word}")
        assert code == 0
        data = DataConfig(path=str(tmp_path / "bars.parquet"), timeframes=timeframes)
        table = build_table(data, window=16, episode_bars=30)
        tradable.append(sum(row["tradable_bars"] for row in plain["segments"]["rows"]))
        assert tradable[-1] == int(table.tradable.sum())
    assert tradable[0] > tradable[1] > 0


# Points of the chart.


@pytest.mark.parametrize("count", [1, 2, MAX_POINTS, MAX_POINTS + 1, 3 * MAX_POINTS + 7])
def test_no_more_points_than_a_page_carries_and_no_extreme_is_lost(tmp_path, count):
    times = pd.date_range("2024-03-01", periods=max(count, 2), freq="min", tz="UTC")
    close = 100.0 + np.arange(len(times)) % 5
    values = {"open": close, "high": close, "low": close, "close": close, "volume": 1.0}
    frame = pd.DataFrame({"timestamp": times, **values})
    frame.loc[len(frame) // 2, "high"] = 99_999.0
    frame.to_parquet(tmp_path / "x.parquet")
    bars = load_bars(DataConfig(path=str(tmp_path / "x.parquet")))
    points, every = merge_points(bars)
    assert len(points) <= MAX_POINTS
    assert len(points) == -(-len(frame) // every)
    assert points["high"].max() == 99_999.0
    assert points["volume"].sum() == len(frame)
    assert points["close"].iloc[-1] == frame["close"].iloc[-1]


def test_a_line_stops_where_a_segment_ends(tmp_path):
    market().to_parquet(tmp_path / "x.parquet")
    bars = load_bars(DataConfig(path=str(tmp_path / "x.parquet")))
    points, _ = merge_points(bars)
    assert points["close"].isna().sum() == 1
    at = int(points["close"].isna().argmax())
    assert points["time"][at + 1] == "2024-03-02T18:40:00"
