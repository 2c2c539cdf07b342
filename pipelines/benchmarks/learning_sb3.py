"""A training run of stable-baselines3 on a known market, with our network and our judge."""

import time
from functools import partial

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tensordict import TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.gym_market import MarketVectorEnv, normalised_windows
from envs.ledger import HEADS
from modules.config import ModelConfig
from modules.fusion import AccountProjection, Fusion
from modules.mlp import MlpEncoder
from pipelines.benchmarks.learning_learners import NETWORK, LearnerSpec
from pipelines.benchmarks.learning_score import Curve, Judge
from pipelines.benchmarks.sb3_env import MarketVecEnv
from pipelines.train_config import TrainConfig


class SharedTrunk(BaseFeaturesExtractor):
    """The trunk of our own network: window and account to the agent's state.

    Args:
        observation_space: ``window`` and ``account``.
        sizes: a perceptron's sizes.
    """

    def __init__(self, observation_space: spaces.Dict, sizes: ModelConfig = NETWORK) -> None:
        super().__init__(observation_space, sizes.features_dim)
        window, features = observation_space["window"].shape or (1, 1)
        columns = (observation_space["account"].shape or (1,))[0]
        self.market = MlpEncoder(
            features,
            window,
            d_model=sizes.d_model,
            ff_dim=sizes.ff_dim,
            num_layers=sizes.num_layers,
        )
        self.account = AccountProjection(columns, sizes.account_dim)
        self.fusion = Fusion(sizes.d_model, sizes.account_dim, sizes.features_dim)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Agent's state, float32 [B, features_dim]."""
        market = self.market(observations["window"])
        return self.fusion(market, self.account(observations["account"]))


def make_sb3(spec: LearnerSpec, table: BarTable, cfg: EnvConfig, seed: int) -> PPO:
    """stable-baselines3's PPO with the numbers of `spec` and linear heads on our trunk."""
    env: VecEnv = MarketVecEnv(MarketVectorEnv(table, cfg))
    train, loss = spec.train, spec.loss
    if spec.normalize_reward:
        env = VecNormalize(env, norm_obs=False, gamma=train.gamma)
    learner = PPO(
        "MultiInputPolicy",
        env,
        learning_rate=partial(_learning_rate, train),
        n_steps=train.steps,
        batch_size=train.minibatch,
        n_epochs=train.epochs,
        gamma=train.gamma,
        gae_lambda=train.lmbda,
        clip_range=loss.clip_epsilon,
        clip_range_vf=loss.clip_value,
        ent_coef=loss.entropy_coeff["direction"],
        vf_coef=loss.value_coeff,
        max_grad_norm=train.max_grad_norm,
        normalize_advantage=loss.normalize_advantage,
        policy_kwargs={
            "features_extractor_class": SharedTrunk,
            "net_arch": [],
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"eps": 1e-5, "weight_decay": train.weight_decay},
        },
        seed=seed,
        device="cpu",
    )
    if spec.zero_value:
        with torch.no_grad():
            for parameter in learner.policy.value_net.parameters():
                parameter.zero_()
    return learner


def _learning_rate(train: TrainConfig, left: float) -> float:
    """With the share of frames that is left: constant or linear."""
    return train.lr * left if train.lr_schedule == "linear" else train.lr


class Sb3Policy:
    """The deterministic policy of a learner, for `pipelines.held_out.rollout.play_tiles`."""

    def __init__(self, learner: PPO, windows: Tensor, window: int) -> None:
        self.learner, self.windows, self.window = learner, windows, window

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for lanes [tiles, 1]."""
        bar = tensordict["bar"].reshape(-1)
        observation = {
            "window": self.windows[bar - self.window + 1],
            "account": tensordict["account"].flatten(0, 1),
        }
        action = self.learner.policy._predict(observation, deterministic=True)
        for i, head in enumerate(HEADS):
            tensordict["action", head] = action[:, i].view(tensordict.batch_size)
        return tensordict


class _Evaluate(BaseCallback):
    """Judges between rollouts, when an update has just been made, and stops the clock for it."""

    def __init__(self, curve: Curve, judge: Judge, policy: Sb3Policy, every: int) -> None:
        super().__init__()
        self.curve, self.judge, self.policy, self.every = curve, judge, policy, every
        self.began, self.due = time.perf_counter(), every

    def _on_rollout_start(self) -> None:
        now = time.perf_counter()
        if self.num_timesteps >= self.due:
            self.curve.add(self.num_timesteps, now - self.began, self.judge.growth(self.policy))
            self.due += self.every
            self.began += time.perf_counter() - now

    def _on_training_end(self) -> None:
        self._on_rollout_start()

    def _on_step(self) -> bool:
        return True


def train_sb3(
    spec: LearnerSpec, table: BarTable, cfg: EnvConfig, judge: Judge, *, frames: int, every: int,
    seed: int,
) -> Curve:  # fmt: skip
    """As `pipelines.benchmarks.learning_ours.train_ours`."""
    learner = make_sb3(spec, table, cfg, seed)
    policy = Sb3Policy(learner, normalised_windows(table, cfg.window), cfg.window)
    curve = Curve(judge.optimum, judge.promised)
    learner.learn(frames, callback=_Evaluate(curve, judge, policy, every))
    return curve
