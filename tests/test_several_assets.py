"""A run on several markets, from the command line to the audit of its trace."""

import contextlib
import dataclasses
import io
import json
import shutil

import pytest

from envs.bar_table import BarTable
from envs.data_config import DataConfig
from envs.table import build_table
from envs.trace_reader import read_trace
from pipelines.audit import main as audit
from pipelines.auditing.audit_rows import DoesNotAddUp
from pipelines.auditing.trace_audit import audit_trace
from pipelines.checkpoint import describe
from pipelines.checkpoint_store import load_newest
from pipelines.config import RunConfig, compose_config
from pipelines.evaluate import main as evaluate
from pipelines.held_out.replay_inputs import load_inputs
from pipelines.held_out.rollout import market_tiles, split_tiles
from pipelines.ppo_transformer import main as train
from pipelines.replay import main as replay
from pipelines.resume import differences, require_same
from pipelines.run_folder import RunFolder, list_checkpoints
from random_walk import draw_cents

WORDS = [
    "env=btcusd_1m_risk_based", "data.timeframes=[5min,15min]", "model=tiny", "env.paths=4",
    "env.accounts=2", "env.workers=0", "env.window=8", "env.episode_bars=24", "env.tick_size=0.01",
    "train.steps=32", "train.minibatch=64", "train.epochs=1", "total_frames=768",
    "checkpoint.every_s=0", "checkpoint.val_episodes=5", "wandb.mode=disabled",
]  # fmt: skip


def write(path, seed, first):
    draw_cents(2_400, seed=seed, first=first).to_parquet(path)
    return path


def train_on(files, folder, *words):
    """Train in `folder`; what was printed."""
    assets = ",".join(f"{name}={file}" for name, file in files.items())
    told, printed = [f"data.assets=[{assets}]", f"run.dir={folder}", *WORDS, *words], io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(compose_config("ppo_transformer", told))
    return printed.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on two markets, and what it printed."""
    folder = tmp_path_factory.mktemp("several")
    files = {"BTC/USD": write(folder / "btc.parquet", 1, 30_000.0),
             "ETH/USD": write(folder / "eth.parquet", 2, 1_500.0)}  # fmt: skip
    printed = train_on(files, folder / "run")
    return RunFolder(folder / "run"), files, printed


def test_each_market_gets_a_replay_of_its_own(trained):
    run, files, printed = trained
    for name in files:
        assert f"{name} test: " in printed
        folder = run.path / f"replay_{name.replace('/', '-')}"
        assert {"replay.html", "result.json", "replay_actions.csv"} <= {
            path.name for path in folder.iterdir()
        }
        rows = read_trace(folder / "replay_actions.csv")
        assert set(rows["asset"]) == {name}
        result = json.loads((folder / "result.json").read_text())
        assert result["replayed"]["asset"] == name
        assert result["replayed"]["source_name"] == files[name].name
    assert not (run.path / "result.json").exists()


def test_the_auditor_explains_the_training_from_the_files_of_all_markets(trained):
    run, files, _ = trained
    names = {name: str(file) for name, file in files.items()}
    assert audit_trace(run.trace("train"), names).rows == 768
    words = [f"{name}={file}" for name, file in names.items()]
    cfg = compose_config(
        "audit", [f"trace={run.trace('train')}", f"data.assets=[{','.join(words)}]"]
    )
    assert audit(cfg) == 0
    for name, file in names.items():
        trace = run.path / f"replay_{name.replace('/', '-')}" / "replay_actions.csv"
        assert audit_trace(trace, file).ruined == 0


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (lambda names: names["BTC/USD"], "of BTC/USD and ETH/USD, and bars were given of one"),
        (lambda names: {"BTC/USD": names["BTC/USD"]}, r"given of BTC/USD: data.assets=\["),
    ],
)
def test_the_auditor_refuses_the_files_of_some_markets(trained, prices, message):
    run, files, _ = trained
    with pytest.raises(ValueError, match=message):
        audit_trace(run.trace("train"), prices({n: str(f) for n, f in files.items()}))


@pytest.mark.parametrize("to", ["ETH/USD", "XRP/USD"])
def test_the_auditor_finds_a_row_of_another_market(trained, tmp_path, to):
    run, files, _ = trained
    lines = run.trace("train").read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if i > 100 and ",BTC/USD," in line)
    lines[at] = lines[at].replace("BTC/USD", to)
    (tmp_path / "train_actions.csv").write_text("".join(lines))
    beside = run.trace("train").with_suffix(".json").read_bytes()
    (tmp_path / "train_actions.json").write_bytes(beside)
    with pytest.raises(DoesNotAddUp) as caught:
        audit_trace(tmp_path / "train_actions.csv", {n: str(f) for n, f in files.items()})
    finding = caught.value.finding
    assert (finding.row, finding.column, finding.found) == (at, "asset", to)


def test_every_trace_is_played_again_to_the_last_bit(trained, capsys):
    run, _, _ = trained
    replay(compose_config("replay", [f"actions={run.trace('train')}"]))
    trace = run.path / "replay_ETH-USD" / "replay_actions.csv"
    replay(compose_config("replay", [f"actions={trace}", f"run={run.path}", "data.asset=ETH/USD"]))
    assert capsys.readouterr().out.count("to the last bit") == 2


def test_a_market_of_the_run_must_be_named_and_so_must_that_of_another_file(
    trained, tmp_path, capsys
):
    run, files, _ = trained
    other = write(tmp_path / "sol.parquet", 3, 100.0)
    for words, message in (
        ([], "data.asset=None is not allowed: one of BTC/USD, ETH/USD"),
        (["data.asset=SOL/USD"], "one of BTC/USD, ETH/USD"),
        ([f"data.path={other}"], "data.asset=None is not allowed: the name of the market of"),
    ):
        with pytest.raises(SystemExit) as ended:
            replay(compose_config("replay", [f"run={run.path}", *words]))
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    inputs = load_inputs(run.path, data_path=str(other), asset="SOL/USD", split="test",
                         episodes=1, device="cpu")  # fmt: skip
    assert inputs.table.asset_names == ["SOL/USD"]
    assert inputs.folder == run.path / "replay_SOL-USD"
    assert files["ETH/USD"].name != inputs.table.meta.source_name


def test_a_replay_sees_a_market_through_the_normaliser_of_the_run(trained):
    run, files, _ = trained
    kept = load_newest(run.checkpoints).model
    for asked in ({"data_path": None}, {"data_path": str(files["ETH/USD"])}):
        inputs = load_inputs(run.path, asset="ETH/USD", split="test", episodes=None, device="cpu",
                             **asked)  # fmt: skip
        state = inputs.model.state_dict()
        keys = [key for key in kept if key.endswith((".loc", ".scale"))]
        assert len(keys) >= 2
        assert all(state[key].equal(kept[key]) for key in keys)
        joint = BarTable.load(run.bars)
        assert any(state[key].equal(joint.loc) for key in keys if state[key].ndim)
        assert inputs.notes == []


def test_the_time_of_the_training_is_in_sample_for_every_market(trained, tmp_path):
    run, _, _ = trained
    other = write(tmp_path / "sol.parquet", 3, 100.0)
    inputs = load_inputs(run.path, data_path=str(other), asset="SOL/USD", split="train",
                         episodes=3, device="cpu")  # fmt: skip
    assert inputs.notes == ["In-sample: the policy was trained on the time of 72 of these 72 bars."]


def test_validation_plays_tiles_of_every_market(trained):
    run, _, _ = trained
    table, cfg = BarTable.load(run.bars), load_newest(run.checkpoints).config.env
    bounds = market_tiles(table, cfg, "val", 5)
    (first, end), _ = (part.rows for part in table.meta.assets)
    assert ((bounds >= first) & (bounds < end)).all(1).tolist() == [True] * 3 + [False] * 2
    for tile_first, tile_last in bounds.tolist():
        part = next(p for p in table.meta.assets if p.rows[0] <= tile_first < p.rows[1])
        begin, stop = part.splits["val"]
        assert begin <= tile_first - cfg.window + 1 < tile_last < stop
    with pytest.raises(ValueError, match=r"data.asset=None .*one of BTC/USD, ETH/USD"):
        split_tiles(table, cfg, "val")


def test_an_evaluation_is_of_one_market(trained, capsys):
    run, files, _ = trained
    assets = ",".join(f"{name}={file}" for name, file in files.items())
    for words, message in (
        ([f"run={run.path}"], "data.asset=None is not allowed: one of BTC/USD, ETH/USD"),
        (["folds=2", f"train=[data.assets=[{assets}],env.tick_size=0.01]", "out=walk"],
         "a walk-forward measures one account"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            evaluate(compose_config("evaluate", words))
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_a_stopped_run_goes_on_bit_for_bit(trained, tmp_path):
    run, files, _ = trained
    again = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, again.path)
    for folder in list_checkpoints(again.checkpoints)[1:]:
        shutil.rmtree(folder)
    printed = train_on(files, again.path, "resume=auto", "replay.enabled=false")
    assert "going on from" in printed
    assert "frame 256" in printed
    assert again.trace("train").read_bytes() == run.trace("train").read_bytes()
    one, two = (load_newest(r.checkpoints) for r in (run, again))
    assert one.values["frames"] == two.values["frames"] == 768
    assert one.manifest["files"] == two.manifest["files"]


def test_a_checkpoint_knows_the_markets_and_not_where_their_files_lay(trained, tmp_path):
    run, files, _ = trained
    checkpoint = load_newest(run.checkpoints)
    assert checkpoint.manifest["data"]["assets"].keys() == files.keys()
    moved = []
    for name, file in files.items():
        (tmp_path / f"moved_{file.name}").write_bytes(file.read_bytes())
        moved.append(f"{name}={tmp_path / f'moved_{file.name}'}")
    cfg, env = checkpoint.config, checkpoint.config.env

    def config(assets):
        return dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, assets=assets))

    for assets, message in ((moved, None), (moved[::-1], "sha256"), (moved[:1], "sha256")):
        now = config(assets)
        table = build_table(now.data, window=env.window, episode_bars=env.episode_bars)
        if message is None:
            require_same(checkpoint, now, table)
            continue
        with pytest.raises(ValueError, match=message):
            require_same(checkpoint, now, table)


def test_a_run_on_one_file_is_described_as_before_and_goes_on_from_before(tmp_path):
    file = write(tmp_path / "btc.parquet", 1, 30_000.0)
    cfg = RunConfig(data=DataConfig(path=str(file)))
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=24)
    about = describe(cfg, table)
    assert list(about["data"]) == ["file", "sha256", "asset", "interval_s", "splits"]
    before = json.loads(json.dumps(about["config"]))
    for key in ("assets", "timeframes"):
        assert before["data"].pop(key) is None
    assert differences(before, about["config"]) == []
