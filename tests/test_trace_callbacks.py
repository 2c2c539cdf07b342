"""What the page of a trace answers, asked without a browser."""

import shutil

import pytest

pytest.importorskip("dash")
pytest.importorskip("duckdb")

from pipelines.run_insights import trace_callbacks, trace_store
from pipelines.run_insights.insights_config import InsightsConfig
from pipelines.run_insights.server import make_app


def make_asker(runs, cache):
    """What a page would be answered: ``ask("url.search", **{"url.search": "?run=one"})``."""
    app = make_app(InsightsConfig(runs=str(runs), cache=str(cache)))
    output = next(key for key in app.callback_map if "url.search" in key)
    wanted = app.callback_map[output]
    outputs = [dict(zip(("id", "property"), part.rsplit(".", 1), strict=True))
               for part in output.strip(".").split("...")]  # fmt: skip

    def ask(changed, **held):
        def values(parts):
            named = [(part, f"{part['id']}.{part['property']}") for part in parts]
            return [{**part, "value": held.get(name)} for part, name in named]

        question = {
            "output": output, "outputs": outputs, "changedPropIds": [changed],
            "inputs": values(wanted["inputs"]), "state": values(wanted["state"]),
        }  # fmt: skip
        page = app.server.test_client().post(
            "/trace/_dash-update-component", json=question, base_url="http://127.0.0.1/"
        )
        return page.get_json()["response"] if page.status_code == 200 else None

    return ask


def opened(ask, search):
    """The first line of a page, and what it says of what is not shown."""
    found = ask("url.search", **{"url.search": search})
    return found["about"]["children"], found["message"]["children"]


def test_a_choice_counts_though_dash_has_dropped_the_answer_to_it(served, tmp_path):
    """A chart that is drawn asks after the choice, and Dash drops the answer to that: by chance."""
    ask = make_asker(served[0], tmp_path)

    def held(answer, **others):
        return {"shown.data": answer["shown"]["data"], "url.search": "?run=half", **others}

    refused = ask("url.search", **{"url.search": "?run=half"})
    assert "Not shown" in refused["message"]["children"]
    drawn = "metric-chart.relayoutData"
    assert ask(drawn, **held(refused, **{drawn: {"autosize": True}})) is None
    chosen = {"trace.value": "train_actions.csv", drawn: {"autosize": True}}
    assert "train_actions.csv" in ask(drawn, **held(refused, **chosen))["url"]["search"]


def test_a_page_that_is_loaded_again_has_the_rows_that_were_written_since(
    trace_run, tmp_path, monkeypatch
):
    shutil.copytree(trace_run[0], tmp_path / "runs" / "one")
    path = tmp_path / "runs" / "one" / "train_actions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:401]))
    monkeypatch.setattr(trace_callbacks, "_PATIENCE_S", 60.0)
    ask = make_asker(tmp_path / "runs", tmp_path / "cache")
    assert opened(ask, "?run=one") == ("400 rows, 6 lanes, frames to 399; lane 0: BTC/USD", "")
    path.write_bytes(b"".join([*lines[:401], lines[401][:50]]))  # in the middle of a row
    assert opened(ask, "?run=one")[1] == ""
    path.write_bytes(b"".join(lines))
    about, message = opened(ask, "?run=one")  # at once: it is not looked at so often
    assert about.startswith("400 rows")
    assert message.startswith("The trace has grown since")
    monkeypatch.setattr(trace_store, "_FRESH_S", 0.0)
    assert opened(ask, "?run=one") == ("900 rows, 6 lanes, frames to 899; lane 0: BTC/USD", "")


def test_a_run_that_is_removed_is_said_to_be_gone_and_no_path_is_told(trace_run, tmp_path):
    shutil.copytree(trace_run[0], tmp_path / "runs" / "one")
    ask = make_asker(tmp_path / "runs", tmp_path / "cache")
    opened(ask, "?run=one")
    shutil.rmtree(tmp_path / "runs" / "one")
    about, message = opened(ask, "?run=one&lane=2")
    assert about == ""
    assert message == "Not shown: there is no run 'one' in runs."
