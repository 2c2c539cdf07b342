"""Configurations: presets, the command line, and what every mistake is answered with."""

import dataclasses
import importlib.resources
import io
import json
import sys

import pytest
from omegaconf import OmegaConf

from pipelines.config import (
    RecorderConfig,
    ReplayConfig,
    RunConfig,
    compose_config,
    load_config,
    restore_config,
)
from pipelines.overrides import list_keys, list_presets

GROUPS = {
    "env": "env",
    "data": "data",
    "model": "model",
    "train": "train",
}
PRESETS = [
    f"{group}={name}"
    for group, names in list_presets(["experiment", *GROUPS]).items()
    for name in names
]


def train(*argv):
    return compose_config("ppo_transformer", argv)


def exit_line(capsys, program, argv):
    """What a program that refuses its command line prints."""
    with pytest.raises(SystemExit) as caught:
        load_config(program, argv)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1, "one line, no traceback"
    return printed.err


def test_the_default_run_is_the_missions_network_on_the_embedded_bars():
    cfg = train()
    assert isinstance(cfg, RunConfig)
    assert cfg.model == RunConfig().model
    assert (cfg.model.d_model, cfg.model.num_heads, cfg.model.ff_dim) == (300, 6, 1536)
    assert cfg.data.path is None
    assert cfg.env.workers == 2
    assert cfg.train.minibatch % cfg.env.accounts == 0


def test_words_of_every_type_reach_their_keys():
    cfg = train(
        "env.paths=64",
        "model.d_model=320",
        "model.num_heads=5",
        "total_frames=1e6",
        "seed=404",
        "tag=my-run_1.0",
        "run.dir=out/a b,(c)=d",
        "data.path='x y.csv'",
        "env.trailing=True",
        "env.max_units=0.5",
        "env.risk_multiples=[1, 2.5]",
        "train.target_kl=0.02",
        "loss.clip_value=0.3",
        "loss.entropy_coeff.size=0.25",
        "recorder.lanes=1_000",
    )
    assert (cfg.env.paths, cfg.model.d_model, cfg.total_frames) == (64, 320, 1_000_000)
    assert isinstance(cfg.total_frames, int)
    assert (cfg.seed, cfg.tag, cfg.run.dir) == (404, "my-run_1.0", "out/a b,(c)=d")
    assert (cfg.data.path, cfg.env.trailing, cfg.env.max_units) == ("x y.csv", True, 0.5)
    assert cfg.env.risk_multiples == [1.0, 2.5]
    assert (cfg.train.target_kl, cfg.loss.clip_value) == (0.02, 0.3)
    assert cfg.loss.entropy_coeff["size"] == 0.25
    assert cfg.loss.entropy_coeff["direction"] == 0.2
    assert cfg.recorder.lanes == 1000


def test_a_path_at_home_is_found_though_no_shell_reads_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    words = ["run.dir=~/runs/a", "data.assets=[A=~/a.csv,~/b.csv,c~/d.csv]", "tag=a"]
    cfg = compose_config("ppo_transformer", words)
    assert cfg.run.dir == "/home/somebody/runs/a"
    assert cfg.data.assets == ["A=/home/somebody/a.csv", "/home/somebody/b.csv", "c~/d.csv"]
    fetch = compose_config("export", ["fetch=pod:~/runs/a.tar.gz"])
    assert fetch.fetch == "pod:~/runs/a.tar.gz"


def test_later_words_win_and_words_win_over_presets_wherever_they_stand():
    cfg = train("model.d_model=64", "model.num_heads=4", "model=aligned", "seed=1", "seed=2")
    assert (cfg.model.d_model, cfg.model.ff_dim, cfg.seed) == (64, 1280, 2)


def test_the_experiments_hold_the_missions_numbers():
    cfg = train("experiment=ppo_gpu_transformer", "data.path=bars.parquet")
    assert (cfg.env.paths, cfg.env.accounts, cfg.env.workers) == (10, 1, 0)
    assert (cfg.env.window, cfg.env.episode_bars, cfg.env.funding_bps_per_day) == (64, 240, 3.0)
    assert cfg.data.interval == "1min"
    t, loss = cfg.train, cfg.loss
    assert (t.steps, t.epochs, t.minibatch, t.lr) == (4096, 10, 2048, 1.2e-4)
    assert (t.gamma, t.lmbda, loss.clip_epsilon) == (0.995, 0.92, 0.2)
    assert (loss.value_coeff, t.max_grad_norm) == (0.5, 0.6)
    assert set(loss.entropy_coeff.values()) == {0.01}
    assert loss.clip_value == 0.2

    cfg = train("experiment=ppo_gpu_transformer_rtxpro", "data.path=bars.parquet", "env.paths=8")
    m = cfg.model
    assert (m.d_model, m.num_heads, m.num_layers, m.ff_dim) == (420, 12, 6, 2048)
    assert m.features_dim == 896
    assert (cfg.env.paths, cfg.train.steps) == (8, 4096), "the command line wins"


def written(preset):
    """What the file of a preset says: values by section and key."""
    group, _, name = preset.partition("=")
    file = importlib.resources.files("configs") / group / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    values = OmegaConf.to_container(OmegaConf.create(text)) or {}
    values.pop("defaults", None)
    return values if "@package _global_" in text else {GROUPS[group]: values}


def picked(values, keys):
    """Of nested values those that have the keys."""
    return {k: picked(values[k], v) if isinstance(v, dict) else values[k] for k, v in keys.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_into_what_it_says(preset):
    words = [] if "synthetic" in preset else ["data.path=bars.parquet"]
    composed = dataclasses.asdict(train(preset, *words))
    said = written(preset)
    assert picked(composed, said) == said


@pytest.mark.parametrize("preset", [p for p in PRESETS if not p.startswith("experiment")])
def test_presets_hold_only_what_differs_from_the_dataclass(preset):
    defaults = dataclasses.asdict(RunConfig())
    for section, changed in written(preset).items():
        for key, value in changed.items():
            assert value != defaults[section][key], f"{preset}: {section}.{key} is the default"


# Command line, and what the answer must contain.
MISTAKES = [
    ("env.pats=3", ["env.pats", "did you mean env.paths"]),
    ("paths=3", ["unknown key paths", "env.paths"]),
    ("model.dmodel=320", ["model.d_model"]),
    ("learning_rate=1", ["unknown key learning_rate", "--help"]),
    ("--num-envs=10", ["'--num-envs=10'", "KEY=VALUE"]),
    ("--seed", ["'--seed'", "KEY=VALUE", "did you mean seed"]),
    ("env.paths", ["'env.paths'", "KEY=VALUE"]),
    ("+env.new=1", ["unknown key +env.new"]),
    ("~env.paths", ["'~env.paths'", "KEY=VALUE"]),
    ("env.paths=many", ["env.paths='many'", "a whole number"]),
    ("env.paths=2.5", ["env.paths='2.5'", "a whole number"]),
    ("env.paths=1,2", ["env.paths='1,2'", "a whole number"]),
    ("env.paths=inf", ["env.paths='inf'", "a whole number"]),
    ("env.paths=", ["env.paths=''", "a whole number"]),
    ("env.paths=0", ["env.paths=0", "at least 1"]),
    ("env.paths=3", ["env.workers=2", "a divisor of env.paths=3"]),
    ("env.trailing=maybe", ["env.trailing='maybe'", "true or false"]),
    ("env.max_units=lots", ["env.max_units='lots'", "a number, or null"]),
    ("data.path=", ["data.path=''", "text, or null"]),
    ("init_from=", ["init_from=''", "text, or null"]),
    ("init_from=''", ["init_from=", "text, or null"]),
    ("data.timeframes=", ["data.timeframes=''", "a list like [1,2]", "or null"]),
    ("env.risk_multiples=1", ["env.risk_multiples='1'", "a list like [1,2]"]),
    ("data.assets=[,b.csv]", ["data.assets='[,b.csv]'", "each text"]),
    ("env.risk_multiples=[1,x]", ["env.risk_multiples='[1,x]'", "each a number"]),
    ("env.risk_multiples=[]", ["env.risk_multiples=[]", "at least one"]),
    ("env.taker_fee_bps=0.02", ["env.taker_fee_bps=0.02", "basis points"]),
    ("env.stop_step_bps=3", ["env.stop_step_bps=3", "three times the slippage"]),
    ("env.initial_cash=nan", ["env.initial_cash=nan", "finite"]),
    ("model.d_model=301", ["model.d_model=301", "model.num_heads=6"]),
    ("train.minibatch=1000", ["train.minibatch=1000", "a multiple of env.accounts=32"]),
    ("train.minibatch=8192", ["train.minibatch=8192", "at most the 4096 frames"]),
    ("train.sequence=4", ["train.sequence=4", "only model=streaming"]),
    ("train.lr=-1", ["train.lr=-1.0", "above 0"]),
    ("train.lr_schedule=linnear", ["train.lr_schedule='linnear'", "constant, linear, cosine"]),
    ("loss.entropy_coeff=0.1", ["loss.entropy_coeff", "loss.entropy_coeff.direction"]),
    ("loss.entropy_coeff.sise=0.1", ["did you mean loss.entropy_coeff.size"]),
    ("env=btcusd_1m", ["env='btcusd_1m'", "btcusd_1m_risk_based"]),
    ("experiment=missing", ["experiment='missing'", "ppo_gpu_transformer"]),
    ("env=btcusd_1m_risk_based", ["data.interval='1min'", "15 minutes", "data.path=FILE"]),
    ("data.interval=fortnight", ["data.interval='fortnight'", "15min"]),
    ("data.asset==SUM(A1)", ["data.asset='=SUM(A1)'", "printable text"]),
    ("env.lot_size=1e-20", ["env.lot_size=1e-20", "1e-18"]),
    ("total_frames=-5", ["total_frames=-5", "at least 1"]),
    ("seed=-1", ["seed=-1", "from 0 to"]),
    ("device=tpu", ["device='tpu'", "cuda"]),
    ("tag=../../x", ["tag='../../x'", "letters"]),
    ("tag=-rf", ["tag='-rf'", "letters"]),
    ("tag=a b", ["tag='a b'", "letters"]),
    ("tag=", ["tag=''", "letters"]),
    ("tag=${oc.env:HOME}", ["tag='${oc.env:HOME}'", "plain values"]),
    ("run.dir=${hydra:runtime.cwd}", ["run.dir=", "plain values"]),
    ("data.path=???", ["data.path='???'", "plain values"]),
    ("env._target_=os.system", ["unknown key env._target_"]),
    ("hydra.run.dir=/tmp", ["unknown key hydra.run.dir"]),
    ("recorder.format=xls", ["recorder.format='xls'", "csv, parquet"]),
    ("recorder.lanes=0", ["recorder.lanes=0", "at least 1"]),
    ("wandb.mode=of", ["wandb.mode='of'", "auto, online, offline, disabled"]),
    ("wandb.project=me/bars", ["wandb.project='me/bars'", "1 to 128 characters, none of / "]),
    (f"wandb.project={'b' * 129}", ["wandb.project='b", "1 to 128 characters"]),
    ("resume=always", ["resume='always'", "none, auto, changed"]),
    ("checkpoint.every_s=-1", ["checkpoint.every_s=-1.0", "from 0 to 86400"]),
    ("checkpoint.every_s=nan", ["checkpoint.every_s=nan", "from 0 to 86400"]),
    ("checkpoint.val_episodes=-1", ["checkpoint.val_episodes=-1", "at least 0"]),
    ("replay.split=tset", ["replay.split='tset'", "train, val, test"]),
    ("replay.episodes=0", ["replay.episodes=0", "at least 1"]),
]


@pytest.mark.parametrize(("word", "answer"), MISTAKES, ids=[word for word, _ in MISTAKES])
def test_a_mistake_is_answered_in_one_line_with_key_value_and_what_is_allowed(capsys, word, answer):
    line = exit_line(capsys, "ppo_transformer", [word])
    for part in answer:
        assert part in line


def test_replay_reads_its_own_keys(capsys):
    cfg = load_config("replay", ["run=runs/a", "data.path=x.csv", "split=val", "episodes=2"])
    assert isinstance(cfg, ReplayConfig)
    assert (cfg.run, cfg.data.path, cfg.split, cfg.episodes) == ("runs/a", "x.csv", "val", 2)
    assert (cfg.out, cfg.device, cfg.seed) == (None, "auto", 0)
    assert "run=PATH" in exit_line(capsys, "replay", [])
    assert "unknown key env" in exit_line(capsys, "replay", ["env=btcusd_15m"])
    assert "split='tests'" in exit_line(capsys, "replay", ["run=a", "split=tests"])
    assert "episodes=0" in exit_line(capsys, "replay", ["run=a", "episodes=0"])


def test_help_lists_every_preset_and_key_with_its_value_and_comment(capsys):
    with pytest.raises(SystemExit) as caught:
        load_config("ppo_transformer", ["model=tiny", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: python pipelines/ppo_transformer.py" in text
    for key in list_keys(RunConfig):
        assert f"  {key}=" in text
    for preset in PRESETS:
        assert preset.partition("=")[2] in text
    assert "  model.d_model=32\n" in text
    assert "  env.max_units=null\n" in text
    assert "  # Width of a token, and of the market's state.\n  model.d_model" in text


@pytest.mark.parametrize("program", ["ppo_transformer", "evaluate", "replay", "benchmark"])
def test_help_fits_a_terminal(program, capsys):
    with pytest.raises(SystemExit, match="0"):
        load_config(program, ["--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_help_says_what_counts_of_a_group_of_keys(capsys):
    with pytest.raises(SystemExit):
        load_config("check_data", ["--help"])
    text = capsys.readouterr().out
    above = text.partition("\n\n  # The grid of lanes:")[0].splitlines()[-1]
    assert above.startswith("  # Of this only `window` and `episode_bars` count:")


def test_a_configuration_survives_json_and_is_checked_when_it_comes_back():
    cfg = train("model=tiny", "env.max_units=3", "loss.entropy_coeff.size=0.5")
    values = json.loads(json.dumps(dataclasses.asdict(cfg)))
    assert restore_config(values) == cfg
    values["env"]["taker_fee_bps"] = 0.02
    with pytest.raises(ValueError, match=r"env\.taker_fee_bps=0\.02 is not allowed"):
        restore_config(values)
    values["env"] = {"patsh": 1}
    with pytest.raises(ValueError, match=r"unknown key env\.patsh.*env\.paths"):
        restore_config(values)
    values["env"] = {"paths": "many"}
    with pytest.raises(ValueError, match=r"env\.paths.*many"):
        restore_config(values)
    values["env"] = 3
    with pytest.raises(ValueError, match="env"):
        restore_config(values)
    with pytest.raises(ValueError, match=r"tag='\$\{oc\.env:HOME\}'"):
        restore_config({"tag": "${oc.env:HOME}"})


def test_recorded_lanes_are_spread_evenly():
    assert RecorderConfig().kept_lanes(256) is None
    assert RecorderConfig(lanes=256).kept_lanes(256) is None
    assert RecorderConfig(lanes=4).kept_lanes(256) == [0, 64, 128, 192]
    kept = RecorderConfig(lanes=7).kept_lanes(20)
    assert kept is not None
    assert len(set(kept)) == 7


def test_a_terminal_that_knows_few_signs_is_told_all_the_same(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    load_config("report", ["folder=Zürich"])
    print("uncertain by ±5.7", flush=True)
    assert written.getvalue() == b"uncertain by \\xb15.7\n"
