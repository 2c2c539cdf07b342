"""What returns are found to say: made-up accounts whose truth is known."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from pipelines.benchmarks.benchmark_verdict import Job, draw_world, find_best, plan, tabulate
from pipelines.benchmarks.driftless import BASELINES, World, draw_returns
from pipelines.judging.bootstrap import block_length, draw_periods, redrawn_sharpes
from pipelines.judging.findings import Evidence, find, recount
from pipelines.judging.period_returns import PeriodReturns, aggregate
from pipelines.judging.sharpe import SharpeEstimate, beyond_tries
from pipelines.judging.superior_ability import excess_returns, superior_ability
from pipelines.judging.verdict import EDGE, NO_EDGE, NOT_ENOUGH, judge, needed_days

DAY = 86_400.0


def returns_of(**columns):
    """Daily returns of minute bars."""
    values = pd.DataFrame(columns)
    values.index = pd.date_range("2024-01-01", periods=len(values), freq="D", tz="UTC")
    return PeriodReturns(values, DAY, 1_440 * len(values), 60.0)


def evidence_of(world, seed=0, **changes):
    names = [f"policy_{i}" for i in range(world.policies)]
    given = {"trades": 500.0} | changes
    return Evidence(draw_returns(world, seed), names, BASELINES, **given)


def noise(seed, days=400, mean=0.0):
    return np.random.default_rng(seed).standard_t(5, days) * 0.01 + mean


def test_seeds_are_judged_as_one_account_of_equal_shares():
    a, b = noise(0, mean=1e-3), noise(1, mean=2e-3)
    returns = returns_of(a=a, b=b, both=(a + b) / 2, flat=0 * a)
    together = find(Evidence(returns, ["a", "b"], ["flat"], trades=100.0), draws=200)
    alone = find(Evidence(returns, ["both"], ["flat"], trades=100.0), draws=200)
    assert together.sharpe == pytest.approx(alone.sharpe, rel=1e-12)
    assert together.sharpe_low == pytest.approx(alone.sharpe_low)
    assert len(together.seed_sharpes) == 2
    assert together.seeds_low <= min(together.seed_sharpes) + 1e-12
    assert together.seeds_high >= max(together.seed_sharpes) - 1e-12
    assert alone.seeds_low == alone.seeds_sharpe == pytest.approx(alone.sharpe)


def test_one_lucky_seed_is_not_an_edge_of_the_configuration():
    returns = returns_of(
        lucky=noise(0, mean=9e-3), **{f"seed_{i}": noise(i, mean=-2e-4) for i in range(1, 5)},
        flat=np.zeros(400),
    )  # fmt: skip
    seeds = ["lucky", *(f"seed_{i}" for i in range(1, 5))]
    judged = judge(find(Evidence(returns, seeds, ["flat"], trades=100.0), draws=300))
    assert judged.findings.sharpe_low > 0.0
    assert judged.word != EDGE
    assert [c.name for c in judged.conditions if not c.holds] == ["whatever the seed"]


def test_a_year_s_ratio_comes_from_the_length_of_the_periods():
    found = find(evidence_of(World(days=400.0, sharpe=2.0)), draws=200)
    returns = draw_returns(World(days=400.0, sharpe=2.0), 0).of("policy_0")
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5)
    assert (found.days, found.periods, found.period_hours) == (400.0, 400, 24.0)


@pytest.mark.parametrize("memory", [0.6, -0.6])
def test_intervals_and_errors_are_of_returns_drawn_again_in_their_own_blocks(memory):
    """Returns that go on or turn around: the formula of their error is too small or too large."""
    policy, hold, year = noise(8, mean=1e-3), noise(9, mean=1e-3), np.sqrt(365.0)
    for t in range(1, 400):
        policy[t] += memory * policy[t - 1]
    policy += 0.3 * hold
    returns = returns_of(policy=policy, flat=0 * hold, hold=hold)
    evidence = Evidence(returns, ["policy"], ["flat", "hold"], trades=99.0, trials=3)
    found = find(evidence, draws=400, seed=3)
    assert found.block_periods == block_length(policy) > 2.0
    drawn = draw_periods(400, found.block_periods, draws=400, seed=3)
    own = policy[:, None]
    for told, left in (
        (found, own), (found.against[0], own), (found.against[1], excess_returns(own, hold)),
    ):  # fmt: skip
        again = year * redrawn_sharpes(left[:, 0], drawn)
        assert told.sharpe == pytest.approx(year * left.mean() / left.std(ddof=1))
        assert told.sharpe_high == pytest.approx(2 * told.sharpe - np.quantile(again, 0.05))
        formula = year * SharpeEstimate.of(left[:, 0]).standard_error
        assert (again.std(ddof=1) > formula) == (memory > 0.0)
        assert told.standard_error == pytest.approx(max(formula, again.std(ddof=1)))
        luck = beyond_tries(told.sharpe / told.standard_error, 3)
        assert told.deflated == pytest.approx(luck)
        if told is not found:
            p_value = superior_ability(left, found.block_periods, draws=400, seed=3)
            assert told.p_value == pytest.approx(p_value)
        else:
            assert told.sharpe_low == pytest.approx(2 * told.sharpe - np.quantile(again, 0.98))
            alone = beyond_tries(told.sharpe / told.standard_error, 1)
            assert told.probabilistic == pytest.approx(alone)


def test_beside_doing_nothing_a_policy_earned_what_it_earned():
    """To the last bit, or the reasons name a baseline that takes nothing away."""
    for seed in range(20):
        policy = noise(seed, mean=1e-3)
        returns = returns_of(policy=policy, flat=0 * policy)
        found = find(Evidence(returns, ["policy"], ["flat"], trades=99.0, trials=3), draws=50)
        assert found.against[0].deflated == found.deflated == recount(found, 3).deflated
        (tries,) = (c.sentence for c in judge(found).conditions if c.name == "beyond the tries")
        assert "that this is more than the luck" in tries


def test_leverage_changes_the_return_and_nothing_else():
    world = World(days=300.0, sharpe=3.0)
    evidence = evidence_of(world)
    doubled = evidence.returns.values.copy()
    doubled["policy_0"] *= 2.0
    twice = dataclasses.replace(
        evidence, returns=dataclasses.replace(evidence.returns, values=doubled)
    )
    once_found, twice_found = find(evidence, draws=300), find(twice, draws=300)
    for name in ("sharpe", "sharpe_low", "sharpe_high", "deflated", "standard_error"):
        assert getattr(twice_found, name) == pytest.approx(getattr(once_found, name)), name
    p_values = [[other.p_value for other in f.against] for f in (once_found, twice_found)]
    assert p_values[0] == p_values[1]


def test_twice_leveraged_buy_and_hold_beats_it_and_has_no_edge():
    market = noise(3, days=1_500, mean=2e-3)
    costs = 1e-5
    returns = returns_of(policy=2 * market - costs, flat=0 * market, buy_and_hold=market)
    judged = judge(
        find(Evidence(returns, ["policy"], ["flat", "buy_and_hold"], trades=100.0), draws=300)
    )
    assert judged.findings.sharpe_low > 0.0  # it earned, and more than buy-and-hold
    assert (
        judged.findings.total_return_fraction > judged.findings.against[1].baseline_return_fraction
    )
    assert judged.word == NO_EDGE
    assert "What it earned is what buy-and-hold earns" in judged.reasons[0]


def test_the_luckiest_of_many_that_are_long_at_random_has_no_edge_on_a_strong_market():
    """Ten that are long on seven days of ten: the market's drift is not skill (a review found it).

    Before the tries were counted against what is left of the market, one in six was an edge.
    """
    edges = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        market = rng.normal(0.004, 0.02, 730)
        tries = market[:, None] * (rng.random((730, 10)) < 0.7)
        best = tries[:, np.log1p(tries).sum(0).argmax()]
        returns = returns_of(policy=best, flat=0 * market, buy_and_hold=market)
        evidence = Evidence(
            returns, ["policy"], ["flat", "buy_and_hold"], trades=300.0, trials=10
        )  # fmt: skip
        edges += judge(find(evidence, draws=300)).word == EDGE
    assert edges <= 1


def test_a_quiet_policy_in_a_wild_market_can_have_an_edge_and_earn_less_than_it():
    market = noise(3, days=800, mean=1e-3) * 2
    returns = returns_of(
        policy=noise(4, days=800, mean=2.5e-3) / 10, flat=0 * market, buy_and_hold=market
    )
    judged = judge(
        find(Evidence(returns, ["policy"], ["flat", "buy_and_hold"], trades=100.0), draws=300)
    )
    assert (
        judged.findings.total_return_fraction < judged.findings.against[1].baseline_return_fraction
    )
    assert judged.word == EDGE


def test_more_trials_ask_for_more_and_can_be_counted_later():
    world = World(days=365.0, sharpe=2.5)
    one, many = (find(evidence_of(world, trials=n), draws=300) for n in (1, 40))
    assert many.deflated < one.deflated
    assert recount(one, 40) == many
    assert recount(many, 1) == one


def test_rivals_make_the_choice_cost_something():
    world = World(days=365.0, policies=25)
    returns = draw_returns(world, 7)
    names = [f"policy_{i}" for i in range(25)]
    best = str((returns.values[names].mean() / returns.values[names].std()).idxmax())
    rest = [name for name in names if name != best]
    alone = find(Evidence(returns, [best], BASELINES, trades=99.0, trials=25), draws=300)
    among = find(Evidence(returns, [best], BASELINES, 99.0, trials=25, rivals=rest), draws=300)
    assert among.against[0].p_value > alone.against[0].p_value
    assert alone.overfitting is None
    assert 0.0 <= among.overfitting <= 1.0
    assert among.deflated == alone.deflated


def test_an_idle_policy_is_found_idle_and_the_findings_are_json():
    returns = returns_of(policy=np.zeros(200), flat=np.zeros(200), buy_and_hold=noise(0, 200))
    found = find(Evidence(returns, ["policy"], ["flat", "buy_and_hold"], trades=0.0))
    assert not found.moved
    assert judge(found).word == NO_EDGE
    json.dumps(judge(found).to_json(), allow_nan=False)
    assert recount(found, 9).deflated == 0.0


def test_ruin_is_no_edge():
    lost = np.zeros(200)
    lost[7] = -1.0
    returns = returns_of(policy=lost, flat=np.zeros(200))
    judged = judge(find(Evidence(returns, ["policy"], ["flat"], trades=50.0), draws=200))
    assert judged.findings.total_return_fraction == -1.0
    assert judged.word != EDGE
    json.dumps(judged.to_json(), allow_nan=False)


def test_bars_to_verdict_in_four_lines():
    rng = np.random.default_rng(0)
    times = pd.date_range("2025-01-01", periods=1_440 * 120, freq="min", tz="UTC")
    curves = {
        "seed 0": pd.Series(np.exp(np.cumsum(rng.normal(2e-6, 2e-4, len(times)))), times),
        "flat": pd.Series(1.0, times),
    }
    returns = aggregate(curves, interval_s=60.0)
    judged = judge(find(Evidence(returns, ["seed 0"], ["flat"], trades=200.0), draws=300))
    assert judged.findings.periods == 120
    assert judged.word == EDGE  # a true ratio of 7


def test_the_same_seed_finds_the_same_and_the_global_generator_is_left_alone():
    evidence = evidence_of(World(days=150.0))
    np.random.seed(1)
    first = find(evidence, draws=100, seed=3)
    state = np.random.get_state()[1].copy()
    assert find(evidence, draws=100, seed=3) == first
    assert np.array_equal(np.random.get_state()[1], state)
    assert find(evidence, draws=100, seed=4).sharpe_low != first.sharpe_low


def test_what_is_needed_falls_with_the_square_of_the_ratio():
    found = find(evidence_of(World(days=400.0, sharpe=1.0), seed=1), draws=200)
    twice = dataclasses.replace(found, sharpe=2 * found.sharpe)
    assert needed_days(found) == pytest.approx(4 * needed_days(twice))
    assert needed_days(recount(found, 50)) > needed_days(found)
    assert needed_days(dataclasses.replace(found, sharpe=-1.0)) is None


def test_after_the_days_that_are_said_about_four_of_five_pass():
    """Brute force: histories of so many days, drawn with the ratio that was estimated."""
    shape = np.random.default_rng(0).standard_normal(120)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    ratio = 6.0 / np.sqrt(365.0)
    flat = np.zeros(120)
    told = {"seeds": ["a"], "baselines": ["flat"], "trades": 99.0, "trials": 5}
    found = find(Evidence(returns_of(a=0.01 * (shape + ratio), flat=flat), **told), draws=300)
    assert found.sharpe == pytest.approx(6.0)
    days, words = round(needed_days(found)), []
    for seed in range(60):
        drawn = 0.01 * (np.random.default_rng(seed).standard_normal(days) + ratio)
        evidence = Evidence(returns_of(a=drawn, flat=0.0 * drawn), **told)
        words.append(judge(find(evidence, draws=300)).word)
    assert 0.68 < words.count(EDGE) / len(words) < 0.95


def test_a_verdict_needs_something_to_judge_and_to_judge_it_by():
    returns = draw_returns(World(days=100.0), 0)
    for seeds, baselines in (([], ["flat"]), (["policy_0"], [])):
        with pytest.raises(ValueError, match="at least one seed and one baseline"):
            find(Evidence(returns, seeds, baselines, trades=1.0))


def test_a_real_edge_is_seen_whatever_the_seed():
    """The ratio of the planted known market is above 30; of this one it is 8, over a year."""
    words = [
        judge(find(evidence_of(World(days=365.0, sharpe=8.0), seed), draws=300)).word
        for seed in range(5)
    ]
    assert words == [EDGE] * 5


def test_costs_that_eat_everything_are_no_edge_within_a_month():
    words = [
        judge(find(evidence_of(World(days=30.0, sharpe=-15.0), seed), draws=300)).word
        for seed in range(5)
    ]
    assert words == [NO_EDGE] * 5


def test_luck_is_rarely_called_an_edge():
    rng = np.random.default_rng(1)
    worlds = [dataclasses.replace(draw_world(rng), policies=1) for _ in range(16)]
    words = [
        judge(find(evidence_of(world, seed), draws=200)).word for seed, world in enumerate(worlds)
    ]
    assert words.count(EDGE) <= 2
    assert set(words) <= {EDGE, NO_EDGE, NOT_ENOUGH}


@pytest.mark.long
def test_of_two_hundred_driftless_matrices_at_most_ten_are_called_an_edge():
    rng = np.random.Generator(np.random.PCG64(2))
    jobs = [Job("mixed", draw_world(rng), seed, bool(seed % 2)) for seed in range(200)]
    assert [judge(find_best(job)).word for job in jobs].count(EDGE) <= 10


def test_the_suite_has_a_row_for_every_kind_and_ratio():
    quick = {"one": World(days=100.0), "two": World(days=100.0, policies=2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.benchmarks.benchmark_verdict.DRIFTLESS", quick)
        patch.setattr("pipelines.benchmarks.benchmark_verdict.SHARPES", (0.0, 9.0))
        patch.setattr("pipelines.benchmarks.benchmark_verdict.DAYS", (200,))
        jobs = plan(1)
        rows = tabulate(jobs, [find_best(job) for job in jobs])
    kinds = [row for row in rows if "matrices" in row]
    assert [row["without an edge"] for row in kinds] == ["everything mixed", "one", "two"]
    assert all(row[EDGE] + row[NO_EDGE] + row[NOT_ENOUGH] == 1 for row in kinds)
    assert [row["200 days"] for row in rows if row.get("true Sharpe ratio") == 9.0] == [
        "100 / 0",
        "100 / 0",
    ]
