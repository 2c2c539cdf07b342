"""The traces of a folder by their names: nothing outside it, each read once, damage said."""

import shutil

import pytest

pytest.importorskip("duckdb")
from pipelines.run_insights.trace_index import cache_folder
from pipelines.run_insights.trace_queries import IndexGoneError, Part
from pipelines.run_insights.trace_store import TraceStore


@pytest.mark.parametrize(
    "name", ["../outside", "..", "/etc", "one/../../outside", "linked", "one/", "", "one\0"]
)
def test_no_name_of_a_run_leads_outside(trace_run, tmp_path, name):
    root = tmp_path / "runs"
    shutil.copytree(trace_run[0].parent, root)
    shutil.copytree(trace_run[0], tmp_path / "outside")
    (root / "linked").symlink_to(tmp_path / "outside")
    store = TraceStore(root, tmp_path / "cache")
    assert list(store.traces("one")) == ["train_actions.csv"]
    with pytest.raises(ValueError, match="there is no run"):
        store.traces(name)


@pytest.mark.parametrize(
    "name", ["../two/train_actions.csv", "config.json", "linked_actions.csv", "/etc/passwd", ""]
)
def test_no_name_of_a_trace_leads_outside(trace_run, tmp_path, name):
    root = tmp_path / "runs"
    shutil.copytree(trace_run[0], root / "one")
    shutil.copytree(trace_run[0], root / "two")
    (root / "one" / "linked_actions.csv").symlink_to(root / "two" / "train_actions.csv")
    store = TraceStore(root, tmp_path / "cache")
    with pytest.raises(ValueError, match="has no trace"):
        store.index("one", name)


def test_the_traces_of_every_market_are_listed_and_links_are_not(trace_run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(trace_run[0], root / "one")
    places = ("replay_BTC-USDT", "replay_ETH-USDT", "evaluation", "evaluation_ETH-USDT")
    for place in (*places, "evaluations"):
        (root / "one" / place).mkdir()
        shutil.copy(trace_run[0] / "train_actions.csv", root / "one" / place / "replay_actions.csv")
    (root / "one" / "replay_linked").symlink_to(root / "one" / "replay_BTC-USDT")
    found = list(TraceStore(root, tmp_path / "cache").traces("one"))
    names = [f"{place}/replay_actions.csv" for place in places]
    assert found == [*names[:2], "train_actions.csv", *names[2:]]


def test_the_store_reads_a_trace_once_and_says_what_is_damaged(trace_run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(trace_run[0], root / "one")
    (root / "one" / "replay_actions.csv").write_text("no trace\n")
    store = TraceStore(root, tmp_path / "cache")
    known, share = store.index("one", "train_actions.csv")
    assert known is None
    assert share < 1
    store.wait("one", "train_actions.csv", 20)
    known, share = store.index("one", "train_actions.csv")
    assert (known.rows, share) == (900, 1.0)
    assert known.folder == str(cache_folder(tmp_path / "cache", "one", "train_actions.csv"))
    store.index("one", "replay_actions.csv")
    store.wait("one", "replay_actions.csv", 20)
    with pytest.raises(ValueError, match="its first line") as refusal:
        store.index("one", "replay_actions.csv")
    assert str(tmp_path) not in str(refusal.value)


def test_a_cache_that_is_removed_is_made_again_and_two_servers_may_share_it(trace_run, tmp_path):
    root, cache = tmp_path / "runs", tmp_path / "cache"
    shutil.copytree(trace_run[0], root / "one")
    stores = [TraceStore(root, cache), TraceStore(root, cache)]

    def ask():
        for store in stores:
            store.index("one", "train_actions.csv")
        for store in stores:
            store.wait("one", "train_actions.csv", 20)
            index, _ = store.index("one", "train_actions.csv")
            assert store.queries.series(index, Part(0, 899), "equity")["rows"].sum() == 900

    ask()
    old, _ = stores[0].index("one", "train_actions.csv")
    shutil.rmtree(cache)
    with pytest.raises(IndexGoneError):
        stores[0].queries.series(old, Part(0, 899), "equity")
    ask()
