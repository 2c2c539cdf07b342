"""What can be won at all: no sequence of actions beats an upper bound that knows every bar."""

import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from candle_tables import NO_COSTS
from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS
from envs.market import MarketEnv
from pipelines.held_out.foresight import foresight_growth, most_equity

SEQUENCES, GENERATIONS, DECISIONS = 10_000, 10, 40


def calm_bars(rng):
    """DECISIONS + 1 bars on the tick that a trader at three times leverage can live on."""
    close = 10_000 * np.exp(np.cumsum(rng.normal(0, 0.003, DECISIONS + 1)))
    opens = np.concatenate([close[:1], close[:-1]]) * np.exp(rng.normal(0, 5e-4, DECISIONS + 1))
    wick = rng.exponential(0.0015, (2, DECISIONS + 1))
    high, low = np.maximum(opens, close) * (1 + wick[0]), np.minimum(opens, close) / (1 + wick[1])
    prices = np.round(np.stack([opens, high, low, close], -1), 1)
    return np.concatenate([prices, np.full((DECISIONS + 1, 1), 50.0)], -1)


def equities(table, cfg, sequences):
    """Equity over the initial cash of action sequences [4, DECISIONS, SEQUENCES], at every step."""
    env = MarketEnv(table, cfg, starts=torch.tensor([[0, DECISIONS]]))
    td, found = env.reset(), []
    alive = torch.ones(SEQUENCES, dtype=torch.bool)
    for t in range(DECISIONS):
        heads = dict(zip(HEADS, sequences[:, t, None], strict=True))
        td["action"] = TensorDict(heads, (1, SEQUENCES))
        td = env.step(td)["next"]
        equity = td["fills"][0, :, FILLS.index("equity")] / cfg.initial_cash
        found.append(torch.where(alive, equity, 0.0))
        alive &= ~td["terminated"][0, :, 0]
    return torch.stack(found)


def breed(sequences, fitness, counts, rng):
    """The next generation: each head of each step from one of two of the best, or drawn anew."""
    best = fitness.argsort(descending=True)[: SEQUENCES // 20]
    one, two = (best[torch.randint(len(best), (SEQUENCES,), generator=rng)] for _ in range(2))
    shape = (1, DECISIONS, SEQUENCES)
    mixed = torch.where(
        torch.rand(shape, generator=rng) < 0.5, sequences[..., one], sequences[..., two]
    )
    drawn = draw(counts, rng)
    return torch.where(torch.rand(drawn.shape, generator=rng) < 0.03, drawn, mixed)


def draw(counts, rng):
    """Random sequences [4, DECISIONS, SEQUENCES]."""
    shape = (DECISIONS, SEQUENCES)
    return torch.stack([torch.randint(n, shape, generator=rng) for n in counts])


@pytest.mark.parametrize("market", ["defaults", "no costs"])
def test_no_sequence_of_actions_beats_perfect_foresight(market):
    costs = NO_COSTS if market == "no costs" else {}
    cfg = EnvConfig(paths=1, accounts=SEQUENCES, workers=0, risk_pct=100.0, **costs)
    bars = calm_bars(np.random.default_rng(21))
    table, bound = BarTable.from_arrays(bars), torch.from_numpy(most_equity(bars, cfg))
    rng = torch.Generator().manual_seed(21)
    counts = list(cfg.num_actions.values())
    sequences, most = draw(counts, rng), []
    for _ in range(GENERATIONS):
        equity = equities(table, cfg, sequences)
        assert (equity <= bound[1:, None] * (1 + 1e-9)).all()
        most.append(float(equity[-1].max()))
        sequences = breed(sequences, equity[-1], counts, rng)
    print(f"{market}: at most {bound[-1]:.3f}; {SEQUENCES * GENERATIONS} sequences, the best of "
          f"each generation {', '.join(f'{x:.3f}' for x in most)}")  # fmt: skip
    assert most[-1] > most[0]
    # The bound is one to come near, not an infinity.
    assert math.log(most[-1]) > 0.5 * math.log(float(bound[-1]))


def test_the_bound_is_met_where_a_trader_can_do_what_it_assumes():
    """One rise, bought at its open and marked at the close: the bound is that very equity."""
    still, rise = (10_000.0,) * 4, (10_000.0, 10_400.0, 10_000.0, 10_400.0)
    bars = np.array([(*still, 9.0), (*rise, 9.0)])
    cfg = EnvConfig(paths=1, accounts=1, workers=0, risk_pct=100.0, tick_size=0.001, lot_size=1e-8)
    env = MarketEnv(BarTable.from_arrays(bars), cfg, starts=torch.tensor([[0, 1]]))
    td = env.reset()
    td["action"] = TensorDict({head: torch.tensor([[2 * (head == "direction")]]) for head in HEADS},
                              (1, 1))  # fmt: skip
    equity = env.step(td)["next", "fills"][0, 0, FILLS.index("equity")].item()
    assert equity / cfg.initial_cash == pytest.approx(most_equity(bars, cfg)[1], rel=1e-9)


def test_the_bound_of_each_tile_is_that_of_its_bars_alone():
    """Tiles of different lengths, in parts."""
    bars = np.concatenate([calm_bars(np.random.default_rng(seed)) for seed in range(4)])
    bars[:, 0] = np.r_[bars[:1, 0], bars[:-1, 3]]
    bars[:, 1] = bars[:, :4].max(1)
    bars[:, 2] = bars[:, :4].min(1)
    table, cfg = BarTable.from_arrays(bars), EnvConfig()
    bounds = torch.tensor([[0, 40], [40, 80], [80, 87]])
    growth = foresight_growth(table, cfg, bounds)
    for (first, last), value in zip(bounds.tolist(), growth, strict=True):
        assert value == pytest.approx(most_equity(bars[first : last + 1], cfg)[-1])
    assert (growth > 1.0).all()
