"""The report of an evaluation: it says what was found, whatever the names are, at every zoom."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from envs.data_config import DataConfig
from envs.table import build_table
from envs.trace import TraceWriter
from envs.trace_reader import read_trace
from evaluated_seeds import ENV, poison
from html_document import EVIL, Document
from pipelines.config import compose_config
from pipelines.held_out.baselines import flat_policy
from pipelines.held_out.rollout import evaluation_config, play_tiles, split_tiles
from pipelines.judging.metrics import completed_trades, in_order
from pipelines.number_text import a_year, days, duration, ratio, signed_percent
from pipelines.price_decimals import price_decimals
from pipelines.report import main, write_report
from pipelines.reporting.report_inputs import ReportInputs
from pipelines.reporting.report_page import make_page
from pipelines.reporting.report_series import Bars
from pipelines.reporting.report_tear_sheet import daily
from unpacked_arrays import unpack, unzigzag


def unpack_bars(packed):
    """The bars of `Bars.pack`, as the page reads them."""
    arrays, interval_ms = unpack(packed), packed["interval_ms"]
    begins = zip(arrays["begin_ms"], arrays["count"], strict=True)
    time_ms = np.concatenate([int(ms) + interval_ms * np.arange(count) for ms, count in begins])
    gap, body, upper, lower = (
        unzigzag(arrays[name]).astype(np.int64) for name in ("open", "close", "high", "low")
    )
    closes = np.cumsum(gap + body)
    opens = closes - body
    ticks = [opens, np.maximum(opens, closes) + upper, np.minimum(opens, closes) - lower, closes]
    return Bars(time_ms, np.stack(ticks, -1) / 10.0 ** packed["decimals"], interval_ms)


@pytest.fixture(scope="module")
def values(evaluation):
    return json.loads((evaluation / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def page(evaluation):
    return (evaluation / "report.html").read_text("utf-8")


def embedded(text, name):
    return json.loads(Document(text).texts[name])


def test_the_page_holds_the_evaluation_whole(page, values):
    assert embedded(page, "evaluation") == values


def test_intervals_of_several_seeds_are_said_to_be_too_narrow(page):
    """Their trades are on the same bars, and count as if they were not."""
    text = Document(page).text
    assert "as 2 seeds trade the same bars, the intervals are too narrow" in text


def test_the_verdict_comes_first_with_its_reasons_and_conditions(page, values):
    text = Document(page).text
    verdict = values["verdict"]
    assert text.index(verdict["word"]) < text.index(verdict["reasons"][0])
    assert text.index(verdict["reasons"][-1]) < text.index("Equity and drawdown")
    held = sum(condition["holds"] for condition in verdict["conditions"])
    assert page.count("<td>✓ yes</td>") == held
    assert page.count("<td>✕ no</td>") == len(verdict["conditions"]) - held


def test_every_account_and_seed_has_its_figures(page, values):
    text = Document(page).text
    for account in values["accounts"].values():
        assert signed_percent(account["equity"]["total_return_fraction"]) in text
    for seed in values["seeds"]:
        assert f"{seed['performance']['trades']['trades']:,}" in text
    receipt = values["receipt"]
    assert receipt["sha256"] in text
    assert receipt["registry"] in text
    assert values["bars"]["source_sha256"] in text


def test_small_money_and_many_days_are_said_in_full(altered):
    def change(values):
        values["bars"].update(days=4_388.0, interval_s=86_400.0)
        values["seeds"][1]["performance"]["trades"]["fees"] = 0.00123

    document = Document(make_page(ReportInputs.read(altered(change))))
    assert "bars of 1 d (4,388 days)" in document.text
    # Among the seeds, and among the figures of every account.
    assert document.text.count("0.00123") == 2


def test_sums_of_money_are_said_to_be_of_many_accounts(page):
    """A policy that lost nine million had no more than the initial cash at any time."""
    text = Document(page).text
    assert text.index("each of which begins with a fresh account") < text.index("exit by")


def test_the_page_fetches_nothing(page):
    document = Document(page)
    assert document.open == []
    elements = document.elements
    for tag, attrs in elements:
        for key in ("src", "href", "data", "action"):
            assert not attrs.get(key, "").startswith(("http", "//", "file:")), (tag, attrs)
        assert tag not in ("iframe", "object", "embed", "form")
    (policy,) = [a["content"] for _, a in elements if a.get("http-equiv")]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_no_name_can_close_an_element_or_become_one(altered, page):
    def change(values):
        values.update(poison(values))
        values["accounts"] = {f"{k}{EVIL}": v for k, v in values["accounts"].items()}

    hostile = altered(change)
    text = make_page(ReportInputs.read(hostile))
    assert "<img" not in text
    assert [tag for tag, _ in Document(text).elements].count("script") == 5
    kinds = {tag for tag, _ in Document(page).elements}
    assert {tag for tag, _ in Document(text).elements} <= kinds
    assert embedded(text, "evaluation") == json.loads((hostile / "evaluation.json").read_text())


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "..", "", 3])
def test_files_outside_the_folder_are_not_read(altered, name):
    def change(values):
        values["seeds"][0]["traces"] = [name]

    hostile = altered(change)
    for suffix in (".csv", ".json"):  # a trace that could be read
        shutil.copy(hostile / f"a_actions{suffix}", hostile.parent / f"secret{suffix}")
    with pytest.raises(ValueError, match="is no file of this folder"):
        make_page(ReportInputs.read(hostile))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(format=2), "not an evaluation of format 1"),
        (lambda values: values.pop("verdict"), "verdict is missing"),
        (lambda values: values.pop("random"), "evaluation.json: not an evaluation: KeyError"),
        (lambda values: values.update(files=None), "evaluation.json: not an evaluation: "),
        (lambda values: values["costs"].update(returns=7), "evaluation.json: not an evaluation: "),
    ],
)
def test_what_is_no_evaluation_is_refused(altered, change, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(compose_config("report", [f"folder={altered(change)}"]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_command_line_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="folder='' is not allowed"):
        compose_config("report", [])


def test_the_bars_of_the_page_are_those_of_the_traces(page, evaluation, values):
    packed = embedded(page, "series")["bars"]
    bars = unpack_bars(packed)
    rows = pd.concat(read_trace(evaluation / t) for t in values["files"]["traces"])
    rows = rows.drop_duplicates("timestamp").sort_values("timestamp")
    assert len(rows) == values["bars"]["bars"]
    times = pd.to_datetime(bars.time_ms, unit="ms", utc=True)
    assert (times == pd.DatetimeIndex(rows["timestamp"])).all()
    assert np.array_equal(bars.prices, rows[["open", "high", "low", "close"]].to_numpy())
    assert packed["decimals"] == 1


def test_the_trades_of_the_page_are_those_of_the_traces(page, evaluation, values):
    series = embedded(page, "series")
    time_ms = unpack_bars(series["bars"]).time_ms
    for seed, packed in zip(values["seeds"], series["seeds"], strict=True):
        arrays = unpack(packed)
        trades = completed_trades(in_order(read_trace(evaluation / seed["traces"][0])), ENV)
        assert packed["total"] == len(trades) == seed["performance"]["trades"]["trades"]
        entry = np.cumsum(arrays["entry"])
        for bar, column in ((entry, "entry_time"), (entry + arrays["held"], "exit_time")):
            assert (pd.to_datetime(time_ms[bar], unit="ms", utc=True) == trades[column]).all()
        assert arrays["profit"] == pytest.approx(trades["profit"].to_numpy(), rel=1e-6, abs=1e-6)
        reasons = [series["reasons"][i] for i in arrays["reason"]]
        assert reasons == trades["exit_reason"].str.replace("_", "-").tolist()
        assert len(arrays["level"]) == len(trades)


@pytest.mark.parametrize(("unit", "decimals"), [(1.0, 0), (0.5, 1), (0.01, 2), (1e-8, 8)], ids=str)
def test_prices_on_a_grid_come_back_exactly(unit, decimals):
    ticks = np.random.default_rng(1).integers(1_000, 90_000, (400, 4))
    prices = np.round(ticks * unit, decimals)
    prices = np.sort(prices)[:, [1, 3, 0, 2]]  # open and close between low and high
    assert price_decimals(prices) == decimals
    bars = Bars(np.arange(400) * 60_000, prices, 60_000)
    assert np.array_equal(unpack_bars(bars.pack()).prices, prices)


def test_prices_without_a_grid_come_back_to_eight_digits():
    prices = np.sort(np.random.default_rng(1).lognormal(3, 1, (400, 4)))[:, [1, 3, 0, 2]]
    found = unpack_bars(Bars(np.arange(400) * 60_000, prices, 60_000).pack()).prices
    assert np.abs(found - prices).max() < 1e-8 * 10 * prices.max()


def test_no_figure_has_more_than_five_thousand_points(page):
    for figure in embedded(page, "figures").values():
        assert max(len(trace["x"]) for trace in figure["data"]) <= 5_000


def test_a_second_look_and_large_orders_are_flagged(altered, page):
    def change(values):
        values["looks"].update(earlier=2, trials=3)
        values["participation"].update(flagged=True, large=7, bars=9, without_volume=2)
        values["participation"].update(median_fraction=0.2, largest_fraction=1.5)

    text = Document(make_page(ReportInputs.read(altered(change)))).text
    assert "Look number 3 at these bars." in text
    assert "The verdict allows for 3 trials." in text
    fills = "Of 9 bars with a fill 2 had no volume, and in 5 the fill was more than a tenth of it."
    assert f"{fills} It was 20.00 % in the median, 150.00 % at the most." in text
    assert "Look number" not in Document(page).text


def test_a_policy_that_never_traded_has_a_page(evaluation, values, tmp_path):
    copy = tmp_path / "flat"
    shutil.copytree(evaluation, copy)
    data = DataConfig(path=str(evaluation.parent / "bars.parquet"), train_frac=0.4, val_frac=0.1)
    table = build_table(data, window=ENV.window, episode_bars=ENV.episode_bars)
    bounds = split_tiles(table, ENV, "test")
    rollout = play_tiles(table, ENV, bounds, flat_policy(ENV))
    played = evaluation_config(ENV, len(bounds))
    for name in values["files"]["traces"]:
        with TraceWriter(copy / name, table, played, run_id="flat", split="test") as writer:
            writer.write(rollout.batch, rollout.alive)
    for name in ("equity", "returns"):
        frame = pd.read_parquet(copy / f"{name}.parquet")
        same = {"policy": frame["flat"], "seed 0": frame["flat"], "seed 1": frame["flat"]}
        frame.assign(**same).to_parquet(copy / f"{name}.parquet")
    changed = json.loads(json.dumps(values))
    changed["verdict"]["findings"]["moved"] = False
    del changed["files"]["sha256"]  # as of those that are older than it
    (copy / "evaluation.json").write_text(json.dumps(changed))
    text = write_report(copy).read_text("utf-8")
    assert "The policy never traded" in Document(text).text
    assert "mix_direction" in text
    assert "mix_size" not in text  # no bars without a number under them
    assert "returns" not in embedded(text, "figures")
    assert [seed["total"] for seed in embedded(text, "series")["seeds"]] == [0, 0]


@pytest.mark.parametrize("kind", ["trace", "equity", "returns"])
def test_files_of_an_evaluation_that_was_stopped_are_not_taken_for_the_one_before(
    evaluation, values, tmp_path, kind
):
    copy = tmp_path / "mixed"
    shutil.copytree(evaluation, copy)
    name = values["files"]["traces"][1] if kind == "trace" else values["files"][kind]
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole.replace(whole[-40:], whole[-40:][::-1]))
    with pytest.raises(ValueError, match="another evaluation was begun in this folder") as refused:
        write_report(copy)
    assert name in str(refused.value)


def test_numbers_are_readable_and_percentages_right():
    assert signed_percent(20.09) == "+2,009.00 %"
    assert a_year(1e60) == "over 100,000 %"
    assert a_year(-0.5) == "-50.00 %"
    assert [duration(s) for s in (60, 90, 180, 3_600, 5_400, 86_400, 200_000)] == [
        "1 min", "90 s", "3 min", "1 h", "90 min", "1 d", "2.31 d",
    ]  # fmt: skip
    assert days(None) == ratio(None)
    assert ratio(1e9) == "over 1,000"


def test_a_tear_sheet_without_its_package_is_refused(evaluation, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "quantstats", None)
    with pytest.raises(SystemExit):
        main(compose_config("report", [f"folder={evaluation}", "quantstats=true"]))
    assert "quantstats=true needs pip install -e '.[report]'" in capsys.readouterr().err


def test_returns_of_periods_are_compounded_to_days():
    times = pd.date_range("2025-01-01", periods=4, freq="12h", tz="UTC")
    found = daily(pd.DataFrame({"policy": [0.1, 0.1, -0.5, 1.0]}, times))
    assert found["policy"].tolist() == pytest.approx([0.21, 0.0])
    assert found.index.tolist() == [pd.Timestamp("2025-01-01"), pd.Timestamp("2025-01-02")]


def test_the_folder_of_a_run_is_refused_with_that_of_its_evaluation(tmp_path):
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    (tmp_path / "run" / "evaluation" / "evaluation.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"there is folder=.*/run/evaluation$"):
        write_report(tmp_path / "run")
