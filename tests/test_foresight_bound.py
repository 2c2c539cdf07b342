"""What can be won at all: no sequence of actions beats an upper bound that knows every bar."""

import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS
from envs.market import MarketEnv
from envs.table import BarTable

SEQUENCES, GENERATIONS, DECISIONS = 10_000, 10, 40


def most_equity(bars, cfg):
    """More than any sequence of actions can make of 1, after each bar: float64 [len(bars)].

    A position of ``u`` units is opened at the open of bar ``i``, flat, on a cash ``E``. Its fill
    ``p`` is the open plus slippage, or worse, and the leverage cap holds after its fee ``f``:
    ``u p <= L (E - u p f)``, hence ``u p <= K E`` with ``K = L / (1 + L f)``. Closed at ``x``, with
    ``g`` the smaller of the two fees, it leaves at most ``E (1 + a (s (x / p - 1) - f - g x / p))``
    for a side ``s`` and some ``0 <= a <= K``: linear in ``a``, so at most ``E`` times the larger of
    1 and the value at ``K``; funding only takes. A liquidation at its floor leaves 0. At the open
    of a bar nothing is filled better than at the open, and within a bar or at its close, where at
    most one exit follows, nothing better than at its high (a long) or low (a short). So

    - ``flat[k]``, flat before the orders of bar ``k``, is the largest of being flat after bar
      ``k - 1`` and of ``flat[i]`` grown by a position from the open of ``i < k`` to that of ``k``;
    - flat after bar ``k`` is the largest of ``flat[k]`` and of ``flat[i]`` grown by a position from
      the open of ``i <= k`` to the best price of bar ``k``;
    - the equity after bar ``k`` is the larger of that and of ``flat[i]`` with a position from the
      open of ``i <= k``, marked at the close without any exit.
    """
    taker, slippage = cfg.taker_fee_bps * 1e-4, cfg.slippage_bps * 1e-4
    fee_out = min(cfg.taker_fee_bps, cfg.maker_fee_bps) * 1e-4
    size = cfg.max_leverage / (1 + cfg.max_leverage * taker)
    opens, high, low, close = bars[:, :4].T

    def grown(side, price, fee):
        """Factor of a position from each bar of `flat` on to `price`, out for `fee`."""
        ratio = price / (opens[: len(flat)] * (1 + side * slippage))
        return np.maximum(1, 1 + size * (side * (ratio - 1) - taker - fee * ratio))

    flat, after, equity = np.zeros(1), 1.0, [1.0]  # nothing is opened in the first bar
    for k in range(1, len(bars)):
        left = max((flat * grown(side, opens[k], fee_out)).max() for side in (1, -1))
        flat = np.append(flat, max(left, after))
        best = max(
            (flat * grown(side, x, fee_out)).max() for side, x in ((1, high[k]), (-1, low[k]))
        )
        after = max(best, flat[-1])
        marked = max((flat * grown(side, close[k], 0.0)).max() for side in (1, -1))
        equity.append(max(marked, after))
    return np.array(equity)


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
def test_no_sequence_of_actions_beats_perfect_foresight(market, no_costs):
    costs = no_costs if market == "no costs" else {}
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
