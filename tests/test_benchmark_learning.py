"""The learning suite: equal networks, whole runs, and the claims it is there to prove."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from envs.gym_market import normalised_windows
from envs.ledger import HEADS
from envs.observation import NUM_ACCOUNT
from pipelines.benchmarks.benchmark_learning import Job, run_job
from pipelines.benchmarks.benchmark_page import write_page
from pipelines.benchmarks.gym_ids import known_market
from pipelines.benchmarks.learning_figure import draw_curves
from pipelines.benchmarks.learning_learners import LEARNERS, NETWORK
from pipelines.model import make_model

sb3 = pytest.mark.oracle


@pytest.fixture(scope="module")
def market():
    table, cfg = known_market("bracket")
    return table, replace(cfg, paths=16)


@sb3
def test_stable_baselines_has_the_same_network(market):
    """With equal weights: equal log-probabilities, entropies and values."""
    pytest.importorskip("stable_baselines3")
    from pipelines.benchmarks.learning_sb3 import Sb3Policy, make_sb3

    table, cfg = market
    learner = make_sb3(LEARNERS["sb3"], table, cfg, seed=0)
    torch.manual_seed(0)
    model = make_model(NETWORK, cfg, table)
    theirs, trunk = learner.policy, learner.policy.features_extractor
    assert all((p == 0).all() for p in theirs.value_net.parameters()), "it starts as ours does"
    parts = model.module[0].module
    trunk.market.load_state_dict(parts["market"].module.module["encoder"].module.state_dict())
    trunk.account.load_state_dict(parts["account"].module.state_dict())
    trunk.fusion.load_state_dict(parts["fusion"].module.state_dict())
    head = model.get_policy_head()[0].module.linear
    value = model.get_value_head().module.linear
    with torch.no_grad():
        head.weight.mul_(100.0)
        value.weight.normal_()
    theirs.action_net.load_state_dict(head.state_dict())
    theirs.value_net.load_state_dict(value.state_dict())

    bar = torch.randint(cfg.window, 1_000, (16, 1, 1))
    state = TensorDict({"bar": bar, "account": torch.randn(16, 1, NUM_ACCOUNT)}, [16, 1])
    windows = normalised_windows(table, cfg.window)
    seen = {"window": windows[bar[:, 0, 0] - cfg.window + 1], "account": state["account"][:, 0]}
    actions = torch.stack([torch.randint(cfg.num_actions[h], (16,)) for h in HEADS], -1)
    with torch.no_grad():
        values, log_prob, entropy = theirs.evaluate_actions(seen, actions)
        dist = model.get_policy_operator().get_dist(state.clone())
        ours = model.get_value_operator()(state.clone())["state_value"][:, 0]
    chosen = {h: actions[:, i : i + 1] for i, h in enumerate(HEADS)}
    log_probs = dist.log_prob(TensorDict({"action": chosen}, [16, 1]))
    total = sum(log_probs["action", f"{h}_log_prob"][:, 0] for h in HEADS)
    torch.testing.assert_close(total, log_prob, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours, values, atol=1e-6, rtol=1e-5)
    entropies = sum(d.entropy()[:, 0] for d in dist.dists.values())
    torch.testing.assert_close(entropies, entropy, atol=1e-6, rtol=1e-5)

    policy = Sb3Policy(learner, windows, cfg.window)
    played = policy(state.clone())
    logits = head(trunk(seen)).split(list(cfg.num_actions.values()), -1)
    for name, part in zip(HEADS, logits, strict=True):
        assert torch.equal(played["action", name][:, 0], part.argmax(-1))


def test_a_quick_look_writes_a_table_numbers_and_a_page(tmp_path):
    """In a fresh process, with ours alone; the page needs no network."""
    out = tmp_path / "learning.json"
    argv = ["suite=learning", "markets=[drift]", "learners=[ours]", "seeds=1", "frames=8192"]
    program = [sys.executable, "pipelines/benchmark.py", *argv, "workers=1", f"out={out}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "frames to 90%" in done.stdout
    result = json.loads(out.read_text())
    assert set(result) == {"suite", "machine", "rows", "network", "learners", "runs"}
    (run,) = result["runs"]
    assert len(run["frames"]) == len(run["growth"]) > 4
    page = out.with_suffix(".html").read_text()
    assert "<script src" not in page
    assert "default-src 'none'" in page
    assert "<th>frames to 90%</th>" in page


def test_a_name_in_a_page_is_text(tmp_path):
    machine = {"commit": "<script>", "torch": "2", "processor": "x", "gpu": None, "threads": 1}
    run = {
        "market": "drift", "learner": "</script>", "seed": 0, "optimum": 1.0, "frames": [1],
        "growth": [1.0],
    }  # fmt: skip
    result = {"runs": [run], "rows": [{"market": "<b>", "learner": "x"}], "machine": machine}
    write_page(tmp_path / "a.html", "<b>", "<b>", result, draw_curves(result["runs"]))
    text = (tmp_path / "a.html").read_text()
    assert "<b>" not in text
    assert text.count("</script>") == 4  # those of the template


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("market", ["drift", "ar1", "regimes", "bracket", "planted"])
def test_our_learner_comes_to_nine_tenths_of_the_optimum(market, seed):
    curve = run_job(Job(market, "ours", seed, 65_536)).curve
    assert curve.final >= 0.9 * curve.optimum


@pytest.mark.long
@pytest.mark.parametrize("market", ["martingale", "heavy_tails"])
def test_our_learner_earns_nothing_where_there_is_nothing(market):
    scores = [run_job(Job(market, "ours", seed, 65_536)).curve.z_score for seed in range(5)]
    assert max(scores) < 3.0
