"""Known-answer markets: the answer played in the real simulator earns what the mathematics says."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from envs.known_answer import known_answer
from envs.known_bracket import BracketSolution
from envs.known_config import MARKETS
from envs.known_solver import SideProblem, leverage_of, side_problem, solve_forever, value_of
from envs.ledger import FILLS, HEADS
from envs.table import build_table
from pipelines.config import compose_config
from pipelines.held_out.rollout import play_tiles, split_tiles

PREDICTABLE = ("drift", "ar1", "planted", "regimes")
COST = 20e-4  # a round trip of the presets


@functools.cache
def market(name, *words):
    """Configuration, table and answer of a preset."""
    argv = [f"data=synthetic/{name}", "data.synthetic.seed=3", *words]
    cfg = compose_config("ppo_transformer", argv)
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    return cfg, table, known_answer(cfg.data.synthetic, cfg.env, table)


def growth(name, policy, *words):
    """Log growth of every full tile of the train split, float64 [tiles]."""
    cfg, table, _ = market(name, *words)
    bounds = split_tiles(table, cfg.env, "train")
    bounds = bounds[bounds[:, 1] - bounds[:, 0] == cfg.env.episode_bars]
    played = play_tiles(table, cfg.env, bounds, policy, max_lanes=4096)
    equity = played.batch["next", "fills"][:, 0, -1, FILLS.index("equity")]
    return (equity / cfg.env.initial_cash).log()


def always(direction, **others):
    def act(td):
        for head in HEADS:
            index = direction if head == "direction" else others.get(head, 0)
            td["action", head] = torch.full(td.batch_size, index)
        return td

    return act


@pytest.mark.parametrize("name", MARKETS)
def test_the_answer_earns_in_the_simulator_what_it_promises(name):
    cfg, _, answer = market(name)
    bars = cfg.env.episode_bars
    earned = growth(name, answer.policy)
    error = float(earned.std()) / len(earned) ** 0.5
    promised = answer.policy_growth(bars)
    assert abs(float(earned.mean()) - promised) <= 4.0 * error + 1e-12
    assert error <= 0.05 * promised or name in ("martingale", "heavy_tails")
    assert promised <= answer.episode_growth(bars) + 1e-12
    assert promised >= 0.99 * answer.episode_growth(bars)


@pytest.mark.parametrize("name", ["martingale", "heavy_tails"])
def test_on_a_fair_market_the_answer_is_not_to_trade(name):
    _, _, answer = market(name)
    assert answer.growth_per_bar == answer.episode_growth(256) == 0.0
    assert (growth(name, answer.policy) == 0).all()
    for side in (0, 2):
        held = growth(name, always(side))
        error = float(held.std()) / len(held) ** 0.5
        assert abs(float(held.mean()) + COST) < 4.0 * error


@pytest.mark.parametrize("name", [*PREDICTABLE, "bracket"])
def test_holding_one_side_earns_no_more(name):
    _, _, answer = market(name)
    best = growth(name, answer.policy)
    for side in range(3):
        other = growth(name, always(side))
        error = float((best - other).std()) / len(best) ** 0.5
        assert float((best - other).mean()) >= -3.0 * error
        assert name == "drift" or float((best - other).mean()) > 3.0 * error


@pytest.mark.parametrize("shift", [-12, 12])
@pytest.mark.parametrize("name", ["ar1", "planted", "regimes"])
def test_other_thresholds_earn_less_in_expectation(name, shift):
    problem, sides = solved(name)
    best = value_of(problem, 2_000, sides)
    assert value_of(problem, 2_000, np.roll(sides, shift, 0)) < best


def solved(name):
    from envs.known_answer import _STATES

    cfg, _, _ = market(name)
    states = _STATES[name](cfg.data.synthetic)
    problem = side_problem(states.mean, states.variance, states.transition, cfg.env)
    return problem, solve_forever(problem)[1]


@pytest.mark.parametrize("half_life", [0.5, 4.0, 32.0, 256.0, 2000.0])
def test_the_grid_of_a_signal_has_its_deviation_and_its_memory(half_life):
    from envs.known_answer import _autoregression

    phi = 0.5 ** (1.0 / half_life)
    grid, transition = _autoregression(phi, 2.0)
    zeros = np.zeros((len(grid), 3))
    share = SideProblem(zeros, np.zeros((3, 3)), transition).stationary()
    variance = share @ grid**2
    assert variance**0.5 == pytest.approx(2.0, rel=1e-3)
    assert share @ (grid * (transition @ grid)) / variance == pytest.approx(phi, rel=1e-3)


def test_a_memory_longer_than_its_grid_is_refused():
    with pytest.raises(ValueError, match="half_life="):
        market("ar1", "data.synthetic.half_life=1e5", "data.synthetic.bars=8192")


@pytest.mark.parametrize("name", ["ar1", "planted", "regimes"])
def test_the_best_policy_is_the_same_for_both_sides(name):
    _, sides = solved(name)
    assert (sides == 2 - sides[::-1, ::-1]).mean() > 0.98
    assert set(np.unique(sides)) >= {0, 2}


def test_a_drift_pays_itself_and_costs_one_round_trip():
    _, _, answer = market("drift")
    assert answer.growth_per_bar == pytest.approx(2e-4, rel=1e-9)
    assert answer.episode_growth(256) == pytest.approx(256 * 2e-4 - COST, rel=1e-3)
    falling = market("drift", "data.synthetic.drift_bps=-2")[2]
    assert falling.growth_per_bar == pytest.approx(2e-4 - (20e-4) ** 2, rel=1e-2)


def test_without_costs_the_sign_of_the_signal_is_the_answer():
    """E|x| of a normal x is its deviation times sqrt(2 / pi); a short pays the square besides."""
    words = ["env.allow_zero_costs=true"]
    words += [f"env.{key}=0" for key in ("taker_fee_bps", "slippage_bps")]
    _, _, answer = market("planted", *words)
    spread = 20e-4 * 0.3
    assert answer.growth_per_bar == pytest.approx(spread * (2 / np.pi) ** 0.5, rel=0.01)


def test_a_regime_that_cannot_be_missed_is_followed():
    """All but the bar after a change is won, and each change costs a round trip."""
    words = ("data.synthetic.sigma_bps=0.1", "data.synthetic.bars=8192")
    _, _, answer = market("regimes", *words)
    expected = 5e-4 * (1.0 - 2.0 / 128.0) - COST / 128.0
    assert answer.growth_per_bar == pytest.approx(expected, rel=1e-3)


def test_a_two_state_problem_by_hand():
    """Growth +1 or -1 a bar for a long, states that never change, a cost of 3 a change."""
    cost = 3.0 * np.abs(np.subtract.outer([-1, 0, 1], [-1, 0, 1]))
    grown = np.array([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
    problem = SideProblem(grown, cost, np.eye(2))
    rate, sides = solve_forever(problem)
    assert rate == pytest.approx(1.0)
    assert sides[0].tolist() == [2, 2, 2]
    assert sides[1].tolist() == [0, 0, 0]
    # Flat, then a bar too few to earn the cost of going in and out again; then seven bars.
    assert value_of(problem, 6) == 0.0
    assert value_of(problem, 7) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"stop_steps": 2}, "env.stop_steps"),
        ({"take_profit_r": [1.0]}, "env.take_profit_r"),
        ({"risk_multiples": [0.5, 1.0]}, "env.risk_multiples"),
        ({"funding_bps_per_day": 3.0}, "env.funding_bps_per_day"),
        ({"max_participation": 0.1}, "env.max_participation"),
        ({"stop_step_bps": 100.0}, "env.stop_step_bps"),
    ],
)
def test_parameters_outside_the_derivation_are_refused(changes, key):
    cfg, _, _ = market("drift")
    with pytest.raises(ValueError, match=key):
        leverage_of(dataclasses.replace(cfg.env, **changes))


# The bracket.


def growth_of(solution, stop, target, size):
    """Growth a bar of always going against the displacement with one bracket, else holding."""
    against = [
        next(
            i
            for i, p in enumerate(solution.positions)
            if p.opened == s and p.action == (1 - s, size, stop, target)
        )
        for s in (-1, 1)
    ]
    flat, held = np.zeros(2), np.zeros_like(solution.log_held)
    for _ in range(5_000):
        stay = (1.0 - solution.gone) * (solution.log_held + held).mean(0)
        through = solution.gain + solution.gone * flat.mean() + stay
        opening = through[[0, 1], against]
        side = np.array([p.side for p in solution.positions])
        wanted = np.array([1, -1])[:, None]
        keep = through - solution.log_held
        flip = solution.log_sold - solution.log_held + opening[:, None]
        new_held = np.where(side == wanted, keep, flip)
        change = opening - flat
        flat, held = opening - opening[0], new_held - opening[0]
    return float(change.mean())


def test_the_best_bracket_is_not_an_extreme_and_the_others_lose_clearly():
    cfg, _, answer = market("bracket")
    solution = BracketSolution(60e-4, cfg.env)
    stops, targets = cfg.env.stop_steps, len(cfg.env.take_profit_r)
    table = np.array([[growth_of(solution, i, j, 1) for j in range(targets)] for i in range(stops)])
    i, j = np.unravel_index(table.argmax(), table.shape)
    assert 0 < i < stops - 1
    assert 0 < j < targets - 1
    assert table.max() == pytest.approx(answer.growth_per_bar, rel=1e-6)
    assert np.sort(table.ravel())[-2] < 0.95 * table.max()
    chosen = [solution.positions[k].action for k in solution.choice_flat]
    assert chosen == [(2, 1, i, j), (0, 1, i, j)]


@pytest.mark.parametrize(("stop", "target"), [(3, 2), (1, 1), (2, 0), (5, 4), (0, 3)])
@pytest.mark.parametrize("size", [0, 1])
def test_every_bracket_earns_in_the_simulator_what_the_table_says(stop, target, size):
    cfg, table, _ = market("bracket")
    expected = growth_of(BracketSolution(60e-4, cfg.env), stop, target, size)
    against = 2 * (table.features[:, 1] < 0).long()

    def act(td):
        always(0, size=size, stop_loss=stop, take_profit=target)(td)
        td["action", "direction"] = against[td["bar"][..., 0]]
        return td

    earned = growth("bracket", act) / cfg.env.episode_bars
    error = float(earned.std()) / len(earned) ** 0.5
    at_the_end = 2 * COST / cfg.env.episode_bars  # closing what is held
    assert abs(float(earned.mean()) - expected) < 4 * error + at_the_end


def test_the_bracket_policy_goes_against_the_displacement_on_both_sides_alike():
    cfg, _, _ = market("bracket")
    solution = BracketSolution(60e-4, cfg.env)
    low, high = (solution.positions[k].action for k in solution.choice_flat)
    assert (low[0], high[0]) == (2, 0)
    assert low[1:] == high[1:]


def test_the_bracket_refuses_what_it_does_not_cover():
    cfg, table, _ = market("bracket")
    with pytest.raises(ValueError, match=r"env\.trailing"):
        known_answer(cfg.data.synthetic, dataclasses.replace(cfg.env, trailing=True), table)
