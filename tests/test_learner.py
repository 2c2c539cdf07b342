"""The learner against plain Python: advantages, bootstrap values, the ratio before a step."""

import dataclasses

import pytest
import torch
from tensordict import TensorDict
from torch.utils._python_dispatch import TorchDispatchMode
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives.value import GAE

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import training_transforms
from envs.market import MarketEnv
from envs.observation import NUM_ACCOUNT
from modules.config import ModelConfig
from modules.hindsight import make_hindsight_critic
from modules.policy import make_actor_value, make_collection_policy
from pipelines.advantage import bootstrap, path_times
from pipelines.learner import Learner
from pipelines.loss_config import LossConfig
from pipelines.precision import MixedPrecision
from pipelines.train_config import TrainConfig, check_minibatch

PATHS, ACCOUNTS, STEPS, WINDOW = 3, 4, 12, 8


def make_learner(model, train, loss=None, hindsight=None, iterations=1):
    lanes = PATHS * ACCOUNTS
    return Learner(
        model,
        train,
        loss or LossConfig(),
        lanes=lanes,
        accounts=ACCOUNTS,
        iterations=iterations,
        hindsight=hindsight,
    )


@pytest.fixture
def setup():
    """A rollout with truncations and ruins mid-way, its model and its learner."""
    generator = torch.Generator().manual_seed(0)
    steps = 3e-3 * torch.randn(300, generator=generator, dtype=torch.float64)
    close = 100.0 * steps.cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]])
    high, low = torch.maximum(open_, close) * 1.001, torch.minimum(open_, close) * 0.999
    table = BarTable.from_arrays(torch.stack([open_, high, low, close, close], -1))
    cfg = EnvConfig(
        paths=PATHS,
        accounts=ACCOUNTS,
        workers=0,
        window=WINDOW,
        episode_bars=5,
        tick_size=0.01,
        ruin_equity_frac=0.985,
    )
    env = TransformedEnv(MarketEnv(table, cfg, seed=1), training_transforms(cfg))
    torch.manual_seed(3)
    sizes = ModelConfig(
        d_model=16,
        num_heads=2,
        num_layers=1,
        ff_dim=16,
        context_ff_dim=16,
        account_dim=8,
        features_dim=16,
    )
    model = make_actor_value(
        sizes,
        features=table.features,
        loc=table.loc,
        scale=table.scale,
        window=WINDOW,
        num_actions=cfg.num_actions,
        num_account=NUM_ACCOUNT,
    )
    train = TrainConfig(steps=STEPS, epochs=1, minibatch=PATHS * ACCOUNTS * STEPS)
    learner = make_learner(model, train)
    collector = Collector(
        env,
        make_collection_policy(model),
        frames_per_batch=PATHS * ACCOUNTS * STEPS,
        total_frames=-1,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    rollout = next(iter(collector)).clone()
    collector.shutdown()
    assert rollout["next", "truncated"].any()
    assert rollout["next", "terminated"].any()
    return model, learner, rollout


def test_next_values_equal_a_forward_over_every_next_state(setup):
    model, learner, rollout = setup
    bootstrap(rollout, learner.advantage.critic)
    with torch.no_grad():
        states = path_times(rollout["next"].select("bar", "account"))
        full = model.get_value_operator()(states)["state_value"]
    full = full.view(PATHS, STEPS, ACCOUNTS, 1).permute(0, 2, 1, 3)
    alive = ~rollout["next", "terminated"]
    torch.testing.assert_close(
        rollout["next", "state_value"][alive], full[alive], atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("lmbda", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("layout", ["paths", "workers"])
def test_advantages_equal_a_plain_loop(setup, lmbda, layout):
    _, learner, rollout = setup
    if layout == "workers":
        rollout = torch.stack([rollout, rollout], 0)
    bootstrap(rollout, learner.advantage.critic)
    gamma = 0.97
    GAE(gamma=gamma, lmbda=lmbda, value_network=None)(rollout)
    flat = rollout.reshape(-1, STEPS)
    for lane in range(flat.shape[0]):
        row, expected, carried = flat[lane], [0.0] * STEPS, 0.0
        for t in reversed(range(STEPS)):
            following = row["next", "state_value"][t].item()
            ruined, done = (bool(row["next", k][t]) for k in ("terminated", "done"))
            delta = row["next", "reward"][t].item() - row["state_value"][t].item()
            delta += 0.0 if ruined else gamma * following
            carried = delta + (0.0 if done else gamma * lmbda * carried)
            expected[t] = carried
        torch.testing.assert_close(
            row["advantage"][:, 0], torch.tensor(expected), atol=1e-5, rtol=1e-4
        )


def test_ratio_is_one_before_the_first_step(setup):
    _, learner, rollout = setup
    learner.advantage(rollout)
    with torch.no_grad():
        out = learner.losses(learner.items(rollout))
    assert abs(float(out["mean_ratio"]) - 1.0) < 1e-5
    assert abs(float(out["max_ratio"]) - 1.0) < 1e-5
    assert float(out["clip_fraction"]) == 0.0


def test_items_keep_the_accounts_of_a_path_together(setup):
    _, _, rollout = setup
    items = path_times(rollout)
    assert items.batch_size == (PATHS * STEPS, ACCOUNTS)
    assert (items["bar"] == items["bar"][:, :1]).all()
    torch.testing.assert_close(items["bar"][:STEPS, 2], rollout["bar"][0, 2])


def test_an_update_moves_the_policy_towards_better_actions(setup):
    model, learner, rollout = setup
    # Pretend that going long was always worth it: its probability must rise.
    long = (rollout["action", "direction"] == 2)[..., None]
    rollout["next", "reward"] = long.float()
    rollout["next", "terminated"].zero_()
    states = path_times(rollout.select("bar", "account"))

    def probability() -> float:
        with torch.no_grad():
            params = model.get_policy_operator().get_dist(states.clone())
        return float(
            params.log_prob(_all_long(states))["action", "direction_log_prob"].exp().mean()
        )

    before = probability()
    for _ in range(40):
        learner.update(rollout.clone())
    assert probability() > before + 0.02


def _all_long(states: TensorDict) -> TensorDict:
    actions = {
        head: torch.full(states.batch_size, 2, dtype=torch.int64)
        for head in ("direction", "size", "stop_loss", "take_profit")
    }
    return TensorDict({"action": actions}, states.batch_size)


class Asked(TorchDispatchMode):
    """Notes what reads a number back from the device, or sends one to it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if any(word in name for word in ("local_scalar", "lift_fresh", "nonzero")):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def test_a_gradient_asks_the_device_for_nothing(setup):
    """A GPU would be waited for at every step, and a CUDA graph could not hold it."""
    _, learner, rollout = setup
    learner.advantage(rollout)
    minibatch = learner.items(rollout)
    with Asked() as asked:
        learner.differentiate(minibatch)
    assert asked.names == []
    with Asked() as asked:
        (minibatch["advantage"] > 0).all().item()
    assert len(asked.names) == 1


def test_a_gradient_that_is_not_finite_stops_before_the_parameters_change(setup):
    model, learner, rollout = setup
    rollout["next", "reward"][0, 0, 3] = torch.nan
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"non-finite .* \[0, 0, "):
        learner.update(rollout)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("minibatch", "accounts", "words"),
    [(100, 16, "a multiple of env.accounts=16"), (4096, 16, "at most the 2048 frames")],
)
def test_a_minibatch_that_cannot_be_filled_is_refused(minibatch, accounts, words):
    with pytest.raises(ValueError, match=words):
        check_minibatch(TrainConfig(steps=32, minibatch=minibatch), accounts=accounts, lanes=64)


def test_a_learner_refuses_what_it_would_leave_out(setup):
    """A rollout is kept in a ring: of one of twice the steps half was never trained on."""
    model, learner, rollout = setup
    with pytest.raises(ValueError, match=r"a multiple of env\.accounts=4"):
        make_learner(model, dataclasses.replace(learner.cfg, minibatch=2))
    half = dataclasses.replace(learner.cfg, steps=STEPS // 2, minibatch=PATHS * ACCOUNTS)
    with pytest.raises(ValueError, match=r"rollout=144 .* at most 72 frames, train\.steps=6"):
        make_learner(model, half).update(rollout)


def test_a_baseline_across_one_account_is_refused():
    cfg = TrainConfig(steps=32, minibatch=64, path_baseline=True)
    with pytest.raises(ValueError, match=r"train\.path_baseline=True"):
        check_minibatch(cfg, accounts=1, lanes=64)


def test_next_hindsight_values_equal_a_forward_over_every_next_state(setup):
    model, _, rollout = setup
    table = model.module[0].module["market"].module.module["window"].module.features
    generator = torch.Generator().manual_seed(2)
    ohlcv = 100.0 + torch.rand(len(table), 5, generator=generator, dtype=torch.float64)
    critic = make_hindsight_critic(
        ohlcv, torch.tensor([[0, len(table)]]), horizon=4, features_dim=16, num_account=NUM_ACCOUNT
    )
    with torch.no_grad():
        critic.module[-1].module.head.linear.weight.normal_()
    learner = make_learner(model, TrainConfig(steps=STEPS, minibatch=48), hindsight=critic)
    with torch.no_grad():
        now = path_times(rollout.select("bar", "account"))
        values = learner.advantage.critic(now)["hindsight_value"]
        after = path_times(rollout["next"].select("bar", "account"))
        full = learner.advantage.critic(after)["hindsight_value"]
    shape = (PATHS, STEPS, ACCOUNTS, 1)
    rollout["hindsight_value"] = values.view(shape).permute(0, 2, 1, 3).contiguous()
    bootstrap(rollout, learner.advantage.critic, "hindsight_value")
    alive = ~rollout["next", "terminated"]
    torch.testing.assert_close(
        rollout["next", "hindsight_value"][alive],
        full.view(shape).permute(0, 2, 1, 3)[alive],
        atol=1e-5,
        rtol=1e-4,
    )


def test_the_kl_stop_looks_at_the_mean_of_an_epoch(setup, monkeypatch):
    model, _, rollout = setup
    frames = PATHS * ACCOUNTS * STEPS
    cfg = TrainConfig(steps=STEPS, epochs=3, minibatch=frames // 2, target_kl=0.2)
    learner = make_learner(model, cfg)
    trained, estimates = learner.step, [0.4, -0.3, 0.7, -0.1, 0.0, 0.0]

    def step(minibatch: TensorDict) -> dict[str, torch.Tensor]:
        return trained(minibatch) | {"train/approx_kl": torch.tensor(estimates.pop(0))}

    monkeypatch.setattr(learner, "step", step)
    learner.update(rollout)
    # 0.05 goes on, 0.3 stops; the last minibatch of each epoch alone would never have stopped.
    assert len(estimates) == 2
    assert learner.epochs_done == 2


def test_bfloat16_acts_and_trains_as_the_same_policy(setup):
    model, learner, rollout = setup
    policy = MixedPrecision(make_collection_policy(model), "bfloat16", torch.device("cpu"))
    learner.cfg.precision = "bfloat16"
    states = path_times(rollout)
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        acted = policy(states.select("bar", "account"))
    assert acted["action", "direction_log_prob"].dtype == torch.float32
    assert acted["state_value"].dtype == torch.float32
    states.update(acted)
    learner.advantage(rollout)
    states["advantage"] = path_times(rollout.select("advantage"))["advantage"]
    states["value_target"] = path_times(rollout.select("value_target"))["value_target"]
    assert abs(float(learner.step(states[:, None])["train/approx_kl"])) < 1e-4


def test_every_epoch_learns_from_every_frame_once(setup, monkeypatch):
    model, _, rollout = setup
    cfg = TrainConfig(steps=STEPS, epochs=3, minibatch=5 * ACCOUNTS)  # and one is left over
    learner, drawn = make_learner(model, cfg), []
    trained = learner.step

    def step(minibatch: TensorDict) -> dict[str, torch.Tensor]:
        drawn.append(minibatch["action", "direction_log_prob"].flatten())
        return trained(minibatch)

    monkeypatch.setattr(learner, "step", step)
    for _ in range(2):  # nothing of a rollout is left in the next one's minibatches
        rollout["action", "direction_log_prob"] -= 0.01
        drawn.clear()
        learner.update(rollout.clone())
        everything = rollout["action", "direction_log_prob"].flatten().sort().values
        epochs = torch.cat(drawn).view(3, -1)
        assert {len(part) for part in drawn} == {5 * ACCOUNTS, ACCOUNTS}
        assert all(torch.equal(epoch.sort().values, everything) for epoch in epochs)
        assert not torch.equal(epochs[0], epochs[1])  # in another order


def test_a_gradient_is_of_its_own_minibatch_and_no_longer_than_is_allowed(setup):
    model, _, rollout = setup
    lengths = {}
    for most in (1e-3, 1e9):
        learner = make_learner(model, TrainConfig(steps=STEPS, minibatch=48, max_grad_norm=most))
        learner.advantage(rollout)
        items = learner.items(rollout)
        for _ in range(2):  # what an earlier one left does not count
            told = float(learner.differentiate(items)["train/grad_norm"])
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        lengths[most] = told, float(torch.cat(gradients).norm())
    (told, clipped), (free, whole) = lengths.values()
    assert clipped == pytest.approx(1e-3, rel=1e-3)
    assert told == pytest.approx(free) == pytest.approx(whole)
    assert whole > 0.01


def test_what_is_told_of_an_update_is_the_mean_of_its_minibatches(setup, monkeypatch):
    model, _, rollout = setup
    learner = make_learner(model, TrainConfig(steps=STEPS, epochs=2, minibatch=48))
    trained, each = learner.step, []

    def step(minibatch: TensorDict) -> dict[str, torch.Tensor]:
        each.append(trained(minibatch))
        return each[-1]

    monkeypatch.setattr(learner, "step", step)
    told = learner.update(rollout)
    assert len(each) == 2 * 3
    for name in told.keys() & each[0].keys():
        if name.startswith("train/entropy_") and name != "train/entropy_loss":
            continue
        mean = sum(float(stats[name]) for stats in each) / len(each)
        assert float(told[name]) == pytest.approx(mean, rel=1e-4, abs=1e-7), name
    parts = ("policy_gradient_loss", "value_loss", "entropy_loss")
    total = sum(float(told[f"train/{part}"]) for part in parts)
    assert float(told["train/loss"]) == pytest.approx(total, rel=1e-4)
    assert float(told["train/entropy_loss"]) < 0.0 < float(told["train/value_loss"])


def test_the_explained_variance_is_the_share_of_the_targets_that_the_critic_knew(setup):
    _, learner, rollout = setup
    rollout["state_value"] = torch.randn_like(rollout["state_value"]).cumsum(-2)
    told = float(learner.update(rollout)["train/explained_variance"])
    target, value = (rollout[key].flatten().tolist() for key in ("value_target", "state_value"))

    def variance(numbers: list[float]) -> float:
        mean = sum(numbers) / len(numbers)
        return sum((number - mean) ** 2 for number in numbers)

    missed = variance([t - v for t, v in zip(target, value, strict=True)])
    assert told == pytest.approx(1.0 - missed / variance(target), rel=1e-3)
    assert told < -1.0  # these values are worse than none


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        ("cosine", [1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]),
    ],
)
def test_the_learning_rate_falls_to_nothing_over_the_training_and_stays_there(
    setup, schedule, shares
):
    model, _, rollout = setup
    cfg = TrainConfig(steps=STEPS, epochs=1, minibatch=144, lr=0.002, lr_schedule=schedule)
    learner = make_learner(model, cfg, iterations=4)
    told = [float(learner.update(rollout.clone())["train/learning_rate"]) for _ in shares]
    assert told == pytest.approx([0.002 * share for share in shares], abs=1e-9)
