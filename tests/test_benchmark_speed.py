"""What the speed suite counts and plans; what it times is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch
from torchrl.envs import check_env_specs

from browser import contrast
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.market import MarketEnv
from envs.table import build_table
from pipelines import benchmark
from pipelines.benchmarks import benchmark_speed
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.benchmark_env import EmptyEnv
from pipelines.benchmarks.benchmark_page import cell_text, write_page
from pipelines.benchmarks.benchmark_replay import time_replays
from pipelines.benchmarks.benchmark_speed import Cell, plan_cells, time_cell
from pipelines.benchmarks.speed_figure import draw_speed

MEASURED = Path(__file__).resolve().parents[1] / "docs" / "measured"

COST = "update, MFLOP a frame and epoch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars") / "bars"
    build_table(DataConfig(), window=64, episode_bars=96).save(folder)
    return folder


@pytest.mark.parametrize("network", ["tiny", "streaming"])
def test_a_window_that_is_shared_costs_its_share(folder, network):
    rows = [time_cell(Cell(network, k, 4 * k), folder, 1, 4) for k in (1, 4)]
    alone, shared = (row[COST] for row in rows)
    assert shared == pytest.approx(alone / 4, rel=0.2)  # what an account costs is not shared


def test_every_column_is_measured(folder):
    row = time_cell(Cell("tiny", 2, 8), folder, 1, 4)
    assert all(value for value in row.values())
    assert row["training, 4 epochs, frames/s"] < row["env + policy, frames/s"]
    assert row["bytes a stored frame"] < 1_000


def test_a_stream_costs_a_small_part_of_its_windows(folder):
    windows, stream = (
        time_cell(Cell(n, 1, 2), folder, 1, 4)[COST] for n in ("aligned", "streaming")
    )
    assert stream < windows / 20


def test_what_takes_too_long_is_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(benchmark_speed, "peak_flops", lambda *_: 1e11)
    cfg = BenchmarkConfig(networks=["mission", "mlp"], sharing=[1, 64], lanes=[16, 65_536])
    cells, left_out = plan_cells(cfg)
    # A grid of 16 lanes has no path of 64 accounts.
    assert len(cells) + left_out == 6
    assert Cell("mission", 1, 65_536) not in cells
    assert Cell("mlp", 1, 65_536) in cells


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"limit_s": 1e-3}, r"^limit_s=0\.001 leaves no cell: the least takes 0\.0\d+ s"),
        ({"quick": True, "lanes": [65_536]}, r"^quick=true leaves no cell: the least takes [\d.]+"),
        ({"lanes": [16], "sharing": [64]}, r"^lanes=\[16\] is not allowed: .*sharing=\[64\]"),
    ],
)
def test_nothing_to_measure_is_refused_in_words(monkeypatch, key, words):
    monkeypatch.setattr(benchmark_speed, "peak_flops", lambda *_: 1e11)
    cfg = BenchmarkConfig(
        **{"networks": ["mlp"], "sharing": [1], "lanes": [16], "growth": False} | key
    )
    with pytest.raises(ValueError, match=words):
        plan_cells(cfg)
    # What time and memory grow with is something.
    cfg.growth = True
    assert cfg.quick or plan_cells(cfg)[0] == []


def test_the_floor_is_the_market_s_specs_and_ends_and_nothing_else():
    bars = [[60_000.0, 60_050.0, 59_950.0, 60_010.0, 7.0]] * 400
    cfg = EnvConfig(paths=2, accounts=3, workers=0, window=8, episode_bars=5)
    market = MarketEnv(BarTable.from_arrays(bars), cfg)
    floor = EmptyEnv(market, cfg.episode_bars)
    check_env_specs(floor)
    played = [env.rollout(12, break_when_any_done=False) for env in (market, floor)]
    for key in ("done", "truncated", "terminated"):
        one, two = (rollout["next", key] for rollout in played)
        assert torch.equal(one, two)
    assert played[1]["next", "done"].sum() == 2 * cfg.lanes
    assert not played[1]["next", "ledger"].any()


def test_a_row_says_what_was_replayed_and_compared():
    (row,) = time_replays(["streaming"], bars=480, compared=240)
    assert row["bars"] == 480
    assert row["bars compared"] == 240
    assert row["entries"] > 0
    assert row["largest margin of one"] < 1e-4


def test_what_was_measured_outlives_what_stops_the_rest(tmp_path, monkeypatch):
    def stopped(*_):
        yield {"network": "mlp", "frames": 1.5}
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "time_speed", stopped)
    out = tmp_path / "speed.json"
    cfg = BenchmarkConfig(suite="speed", networks=["mlp"], lanes=[16], growth=False, out=str(out))
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(cfg)
    kept = json.loads(out.read_text())
    assert kept["rows"] == [{"network": "mlp", "frames": 1.5}]
    assert kept["unfinished"]


def test_a_quick_look_writes_tables_and_a_page(tmp_path):
    """In a fresh process; the page needs no network."""
    out = tmp_path / "speed.json"
    argv = ["suite=speed", "quick=true", "networks=[mlp]", "sharing=[4]", "lanes=[16]"]
    program = [sys.executable, "pipelines/benchmark.py", *argv, "repeats=1", f"out={out}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert (row["network"], row["lanes"]) == ("mlp", 16)
    assert result["machine"]["commit"]
    page = out.with_suffix(".html").read_text()
    assert "<script src" not in page
    assert "<th>share of the GEMM peak</th>" in page


def test_growth_is_drawn_as_a_multiple_of_the_first_point(tmp_path):
    rows = [{"lanes": lanes, "ms a step": 0.5 * lanes} for lanes in (2, 4, 8)]
    figure = draw_speed(rows)
    assert list(figure.data[0].y) == [1.0, 2.0, 4.0]
    machine = {"commit": "c", "torch": "2", "processor": "x", "gpu": None, "threads": 1}
    write_page(tmp_path / "a.html", "Speed", "", {"rows": rows, "machine": machine}, figure)


def test_every_panel_of_growth_names_its_lines():
    rows = [{"lanes": n, "ms a step": 0.5 * n, "peak memory, MiB": 9.0} for n in (2, 4)]
    rows += [{"bars": n, "ms a step": 0.5 * n} for n in (2, 4)]
    figure = draw_speed(rows)
    panels = {trace.legend: trace.yaxis for trace in figure.data}
    assert sorted(panels.values()) == ["y", "y2"]
    for legend, axis in panels.items():
        top = figure.layout[axis.replace("y", "yaxis")].domain[1]
        assert figure.layout[legend].y == top
        assert all(t.showlegend is not False for t in figure.data if t.legend == legend)


def test_cells_of_nearly_a_thousand_are_in_full():
    values = (999.7, 12_345.6, -999.99, 99.96, 0.01234, 7)
    cells = ["1,000", "12,346", "-1,000", "100", "0.0123", "7"]
    assert [cell_text(value) for value in values] == cells


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_follows_the_readers_scheme(chromium, tmp_path, dark):
    rows = [{"lanes": lanes, "ms a step": 0.5 * lanes} for lanes in (2, 4, 8)]
    result = {"rows": rows, "machine": benchmark._machine()}
    write_page(tmp_path / "a.html", "Speed", "", result, draw_speed(rows))
    chromium.resize(390, 844, dark=dark, phone=True)
    chromium.open(tmp_path / "a.html")
    paper = chromium.run("return getComputedStyle(document.body).backgroundColor")
    assert (contrast(paper, "#000000") < 2) == dark
    chart = "document.getElementById('chart')"
    layout = chromium.run(f"return {chart}.layout")
    assert contrast(paper, layout["plot_bgcolor"]) == 1
    assert contrast(paper, layout["font"]["color"]) >= 7
    line = chromium.run(f"return {chart}.data[0].line.color")
    assert contrast(paper, line) >= 3
    assert chromium.run("return document.documentElement.scrollWidth") <= 390
    assert chromium.errors() == []
    chromium.resize(1280, 900)


def test_a_result_that_could_not_be_written_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(benchmark, "_measure", lambda _: pytest.fail("measured first"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "x.json", tmp_path / "folder.json"):
        (tmp_path / "folder.json").mkdir(exist_ok=True)
        with pytest.raises(SystemExit, match="2"):
            benchmark.main(BenchmarkConfig(out=str(out)))
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(tmp_path) in said


def test_a_result_makes_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_measure", lambda _: ([], {}))
    benchmark.main(BenchmarkConfig(out=str(tmp_path / "new" / "x.json")))
    assert json.loads((tmp_path / "new" / "x.json").read_text())["suite"] == "env"


def strictly(text):
    """JSON as everybody reads it: Python alone knows of an Infinity in it."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_never_happened_is_null_in_the_numbers_and_never_in_the_table(
    tmp_path, monkeypatch, capsys
):
    rows = [{"market": "drift", "seconds to 90%": float("inf"), "spread": float("nan")}]
    monkeypatch.setattr(benchmark, "_measure", lambda _: (rows, {}))
    benchmark.main(BenchmarkConfig(out=str(tmp_path / "x.json")))
    (row,) = strictly((tmp_path / "x.json").read_text())["rows"]
    assert row == {"market": "drift", "seconds to 90%": None, "spread": None}
    assert "never" in capsys.readouterr().out
    result = {"rows": rows, "machine": benchmark._machine()}
    write_page(tmp_path / "x.html", "", "", result, go.Figure())
    page = (tmp_path / "x.html").read_text()
    assert "<td>never</td>" in page
    strictly(page.partition('id="result">')[2].partition("</script>")[0])


@pytest.mark.parametrize(
    ("commit", "shown"),
    [(None, "Commit unknown,"), ("0123456789abcdef-dirty", "Commit 01234567-dirty,")],
)
def test_a_page_says_of_which_code_it_is_also_where_that_is_not_known(tmp_path, commit, shown):
    result = {"rows": [{"lanes": 2}], "machine": benchmark._machine() | {"commit": commit}}
    write_page(tmp_path / "x.html", "", "", result, go.Figure())
    assert shown in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("path", sorted(MEASURED.glob("*.json")), ids=lambda path: path.name)
def test_what_was_measured_is_json(path):
    strictly(path.read_text(encoding="utf-8"))
