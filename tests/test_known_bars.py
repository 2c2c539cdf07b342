"""The generated bars: their statistics, their seeds, and that nothing knows the future."""

import math
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
import torch

from candle_tables import NO_COSTS
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.known_bars import draw_market
from envs.known_config import MARKETS, SyntheticConfig
from envs.table import build_table
from pipelines.config import compose_config
from pipelines.held_out.baselines import ConstantPolicy
from pipelines.held_out.rollout import final_equity, play_tiles, split_tiles


def returns_of(market, **changes):
    """Log returns [S, B] and the other features."""
    cfg = SyntheticConfig(market=market, **changes)
    _, features, _ = draw_market(cfg)
    features = features.astype(np.float64).reshape(-1, cfg.segment_bars, features.shape[1])
    return features[..., 0], features[..., 1:]


@pytest.mark.parametrize("market", MARKETS)
def test_bars_are_whole_and_segments_start_at_the_same_price(market):
    cfg = DataConfig(synthetic=SyntheticConfig(market=market, bars=8192), interval="1min")
    table = build_table(cfg, window=8, episode_bars=64)
    o, h, low, c, _ = table.ohlcv.unbind(-1)
    assert (h >= torch.maximum(o, c)).all()
    assert (low <= torch.minimum(o, c)).all()
    first = torch.cat([torch.tensor([True]), table.segment.diff() > 0])
    assert int(first.sum()) == 4
    torch.testing.assert_close(o[1:][~first[1:]], c[:-1][~first[1:]], rtol=1e-12, atol=0)
    if market != "bracket":
        torch.testing.assert_close(o[first], torch.full_like(o[first], 60_000.0))
    returns = torch.log(c[1:] / c[:-1])[~first[1:]].float()
    torch.testing.assert_close(table.features[1:, 0][~first[1:]], returns, atol=1e-7, rtol=1e-4)
    assert market in table.meta.source_name
    assert len(table.meta.source_sha256) == 64
    assert table.summary_lines()


@pytest.mark.parametrize("market", MARKETS)
def test_a_seed_is_a_market_and_another_seed_another(market):
    one, two, other = (
        draw_market(SyntheticConfig(market=market, seed=seed, bars=4096))[0] for seed in (1, 1, 2)
    )
    assert one.equals(two)
    assert not one["close"].equals(other["close"])


@pytest.mark.parametrize("market", ["martingale", "heavy_tails"])
def test_a_fair_price_is_as_dear_tomorrow_as_today(market):
    returns, _ = returns_of(market, bars=2_048_000)
    gross = np.exp(returns) - 1.0
    assert abs(gross.mean()) < 4.0 * gross.std() / gross.size**0.5
    assert gross.std() == pytest.approx(20e-4, rel=0.05)


@pytest.mark.parametrize("market", ["martingale", "heavy_tails"])
def test_a_fair_price_pays_nobody_for_a_stop(market):
    """Bars without the way between their points would: a stop fills at its price, not beyond."""
    env = EnvConfig(workers=0, window=4, episode_bars=32, **NO_COSTS)
    drawn = SyntheticConfig(market=market, bars=131_072, sigma_bps=60.0)
    table = build_table(DataConfig(synthetic=drawn, interval="1min"), window=4, episode_bars=32)
    bounds = split_tiles(table, env, "train")
    bracket = {"size": 0, "stop_loss": 0}
    for direction in (0, 2):
        for target in (0, 1):
            policy = ConstantPolicy({"direction": direction, **bracket, "take_profit": target})
            played = play_tiles(table, env, bounds, policy, max_lanes=4_096)
            profit = final_equity(played) / env.initial_cash - 1.0
            z = float(profit.mean() / profit.std() * len(profit) ** 0.5)
            assert z < 3.0
            assert z > -3.0 or target  # of a bar that touches both, the stop is what counts


def test_a_bar_goes_as_far_as_a_price_that_never_leaps():
    """The chance to touch a price on the way, from the reflection principle."""
    frame, _, _ = draw_market(SyntheticConfig(market="martingale", bars=409_600))
    sigma, normal = 20e-4, NormalDist().cdf
    for way, name in ((1.0, "high"), (-1.0, "low")):
        mean = -way * sigma**2 / 2.0
        reached = way * np.log(frame[name] / frame["open"])
        for distance in (5e-4, 20e-4, 40e-4):
            chance = normal((mean - distance) / sigma)
            chance += math.exp(2.0 * mean * distance / sigma**2) * normal(
                (-mean - distance) / sigma
            )
            error = (chance * (1.0 - chance) / len(frame)) ** 0.5
            assert abs((reached >= distance).mean() - chance) < 4.0 * error


def test_heavy_tails_are_heavy_and_come_in_clusters():
    heavy, plain = (returns_of(m, bars=409_600)[0] for m in ("heavy_tails", "martingale"))

    def kurtosis(x):
        return ((x - x.mean()) ** 4).mean() / x.var() ** 2

    def memory(x):
        square = x**2 - (x**2).mean()
        return (square[:, 10:] * square[:, :-10]).mean() / square.var()

    assert kurtosis(heavy) > 5.0 > 3.2 > kurtosis(plain)
    assert memory(heavy) > 0.03 > 0.01 > abs(memory(plain))


@pytest.mark.parametrize(("half_life", "snr"), [(32.0, 0.09), (8.0, 0.25)])
def test_the_signal_has_its_half_life_and_its_share(half_life, snr):
    returns, signal = returns_of("planted", half_life=half_life, snr=snr, bars=1_024_000)
    x, lag = signal[..., 0], round(half_life)
    assert (x[:, lag:] * x[:, :-lag]).mean() / x.var() == pytest.approx(0.5, abs=0.05)
    noise = returns[:, 1:] - x[:, :-1]
    assert x.var() / noise.var() == pytest.approx(snr, rel=0.05)
    assert abs((noise * x[:, :-1]).mean()) < 4 * noise.std() * x.std() / noise.size**0.5


def test_regimes_last_as_long_as_they_should():
    returns, _ = returns_of("regimes", regime_bps=200.0, sigma_bps=1.0, regime_bars=50.0)
    turns = (np.sign(returns[:, 2:]) != np.sign(returns[:, 1:-1])).mean()
    assert 1.0 / turns == pytest.approx(50.0, rel=0.05)


@pytest.mark.parametrize("market", ["ar1", "regimes"])
def test_what_was_can_be_seen_in_returns_only(market):
    _, features, names = draw_market(SyntheticConfig(market=market, bars=4096))
    assert names == ["log_return_1"]
    assert features.shape == (4096, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.synthetic.market=arl"], "data.synthetic.market='arl'"),
        (["data=synthetic/drift", "data.synthetic.half_life=4"], "only ar1, planted has it"),
        (["data=synthetic/ar1", "data.synthetic.half_life=0"], "data.synthetic.half_life=0"),
        (["data=synthetic/regimes", "data.synthetic.regime_bars=2"], "regime_bars=2.0"),
        (["data=synthetic/ar1", "data.path=bars.csv"], "data.path='bars.csv'"),
        (["data=synthetic/ar2"], "did you mean synthetic/ar1"),
        (["data=synthetic/heavy_tails", "data.synthetic.garch_alpha=0.2"], "garch_beta"),
        (["data=synthetic/drift", "data.synthetic.bars=100"], "data.synthetic.bars=100"),
    ],
)
def test_mistakes_are_refused_by_name(words, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        compose_config("ppo_transformer", words)


def test_a_preset_and_its_parameters_compose():
    cfg = compose_config("ppo_transformer", ["data=synthetic/ar1", "data.synthetic.half_life=4"])
    assert cfg.data.synthetic["half_life"] == 4.0
    assert (cfg.env.window, cfg.env.stop_steps, cfg.env.taker_fee_bps) == (32, 1, 5.0)


def test_a_run_on_a_known_market_from_the_command_line(tmp_path):
    argv = ["data=synthetic/drift", "model=mlp", "data.synthetic.bars=32768", "total_frames=4096"]
    argv += ["train.steps=32", "train.minibatch=512", f"run.root={tmp_path}", "tag=known"]
    program = [sys.executable, "pipelines/ppo_transformer.py", *argv, "wandb.mode=disabled"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SYNTHETIC/drift test" in done.stdout
    assert "buy-and-hold" in done.stdout
