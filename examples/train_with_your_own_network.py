"""Train the market with a network of your own: any TensorDict graph with the right keys will do.

The graph below reads only the account, and a single number of the market that it looks up itself.
Nothing here needs Hydra, a run folder or this project's networks.

    python examples/train_with_your_own_network.py
"""

import torch
from tensordict.nn import CompositeDistribution, TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv
from torchrl.modules import ActorValueOperator, ProbabilisticActor, ValueOperator

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.factory import training_transforms
from envs.ledger import HEADS
from envs.market import MarketEnv
from envs.observation import NUM_ACCOUNT
from modules.policy import make_collection_policy
from pipelines.learner import Learner
from pipelines.loss_config import LossConfig
from pipelines.train_config import TrainConfig


def sine_market(num_bars: int = 2_000) -> BarTable:
    """Bars that swing by 2 % every 40 bars: a market whose best policy one can guess."""
    time = torch.arange(num_bars, dtype=torch.float64)
    close = 100.0 * (1.0 + 0.02 * torch.sin(2.0 * torch.pi * time / 40.0))
    open_ = torch.cat([close[:1], close[:-1]])
    high, low = torch.maximum(open_, close), torch.minimum(open_, close)
    return BarTable.from_arrays(torch.stack([open_, high, low, close, 0.0 * close + 10.0], -1))


class Momentum(nn.Module):
    """bar -> the last return, in percent: [..., 1] int64 to [..., 1] float32."""

    def __init__(self, table: BarTable) -> None:
        super().__init__()
        self.register_buffer("returns", 100.0 * table.features[:, 0], persistent=False)

    def forward(self, bar: Tensor) -> Tensor:
        """Look the return up."""
        return self.returns[bar]


def make_model(table: BarTable, cfg: EnvConfig) -> ActorValueOperator:
    """Market and account to one hidden layer, to four heads and a value."""
    trunk = TensorDictSequential(
        TensorDictModule(Momentum(table), ["bar"], ["momentum"]),
        TensorDictModule(
            lambda momentum, account: torch.cat([momentum, account], -1),
            ["momentum", "account"],
            ["seen"],
        ),
        TensorDictModule(
            nn.Sequential(nn.Linear(1 + NUM_ACCOUNT, 64), nn.Tanh()), ["seen"], ["agent_state"]
        ),
    )
    heads = TensorDictSequential(
        *(
            TensorDictModule(nn.Linear(64, n), ["agent_state"], [("params", head, "logits")])
            for head, n in cfg.num_actions.items()
        )
    )
    actor = ProbabilisticActor(
        heads,
        in_keys=["params"],
        distribution_class=CompositeDistribution,
        distribution_kwargs={
            "distribution_map": dict.fromkeys(HEADS, Categorical),
            "name_map": {head: ("action", head) for head in HEADS},
        },
        return_log_prob=True,
    )
    return ActorValueOperator(trunk, actor, ValueOperator(nn.Linear(64, 1), ["agent_state"]))


def main(iterations: int = 40) -> list[float]:
    """Train, and return the mean reward a step of every iteration."""
    torch.manual_seed(0)
    table = sine_market()
    cfg = EnvConfig(
        paths=16, accounts=8, window=1, episode_bars=80, tick_size=0.01, stop_step_bps=50.0
    )
    train = TrainConfig(steps=40, epochs=4, minibatch=1_280, lr=3e-3)
    env = TransformedEnv(MarketEnv(table, cfg, seed=1), training_transforms(cfg))
    model = make_model(table, cfg)
    collector = Collector(
        env,
        make_collection_policy(model),
        frames_per_batch=cfg.lanes * train.steps,
        total_frames=cfg.lanes * train.steps * iterations,
        auto_register_policy_transforms=False,
    )
    learner = Learner(
        model,
        train,
        LossConfig(entropy_coeff=dict.fromkeys(HEADS, 0.01)),
        lanes=cfg.lanes,
        accounts=cfg.accounts,
        iterations=iterations,
    )
    rewards = []
    for rollout in collector:
        learner.update(rollout)
        rewards.append(float(rollout["next", "reward"].mean()))
        print(f"iteration {len(rewards):2d}: reward a step {rewards[-1]:+.4f}")
    return rewards


if __name__ == "__main__":
    main()
