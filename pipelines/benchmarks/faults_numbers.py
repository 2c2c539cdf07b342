"""NaN and infinities in every place where a number can go bad: stopped before a weight changes."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tensordict import TensorDictBase
from torch import Tensor

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.data_config import DataConfig
from envs.factory import make_env
from envs.table import build_table
from modules.config import ModelConfig
from modules.window import BarWindow
from pipelines.benchmarks.faults_run import row
from pipelines.config import RunConfig
from pipelines.model import make_model
from pipelines.non_finite import keep_evidence
from pipelines.non_finite_error import NonFiniteError
from pipelines.train_config import TrainConfig
from pipelines.training import Training

VALUES = (math.nan, math.inf, -math.inf)
_ENV = EnvConfig(paths=4, accounts=2, workers=0, window=8, episode_bars=32, tick_size=0.01)
_MODEL = ModelConfig(
    encoder="mlp", d_model=16, ff_dim=16, num_layers=1, num_heads=1, account_dim=8, features_dim=16
)


def inject_numbers(folder: Path, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Put a number that is none into each of `PLACES` in turn, `count` times in all.

    Args:
        folder: for files of bars and for the evidence.
        count: of injections.
        seed: of iterations, elements and values.
    """
    rng = random.Random(seed)  # noqa: S311
    tried = dict.fromkeys(PLACES, 0)
    held = dict.fromkeys(PLACES, 0)
    for i in range(count):
        place = list(PLACES)[i % len(PLACES)]
        tried[place] += 1
        held[place] += PLACES[place](folder, rng)
    return [row(f"NaN or Inf in {place}", tried[place], held[place]) for place in PLACES]


def _in_file(folder: Path, rng: random.Random) -> bool:
    """A cell of a file of bars."""
    times = pd.date_range("2024-01-01", periods=2_000, freq="1min", tz="UTC")
    bars = pd.DataFrame({"timestamp": times, "volume": 1.0})
    for column in ("open", "high", "low", "close"):
        bars[column] = 100.0
    bars.loc[rng.randrange(len(bars)), rng.choice(["open", "high", "low", "close", "volume"])] = (
        rng.choice(VALUES)
    )
    path = folder / "bars.parquet"
    bars.to_parquet(path)
    try:
        build_table(DataConfig(path=str(path)), window=8, episode_bars=32)
    except ValueError as error:
        return "bars.parquet" in str(error) and "row" in str(error)
    return False


def _in_training(
    hurt: Callable[[Training, random.Random], None], names: str
) -> Callable[[Path, random.Random], bool]:
    """A trial: train, hurt after an iteration, and see it stopped, named and nothing changed."""

    def trial(folder: Path, rng: random.Random) -> bool:
        training = _small_training()
        iterations = iter(training)
        for _ in range(rng.randint(1, 2)):
            next(iterations)
        hurt(training, rng)
        learner = training.learner
        # The value head is counted in other units before the first step, and says the same.
        watched = list(training.model.get_policy_operator().parameters())
        before = [p.detach().clone() for p in watched]
        steps = _count_steps(learner.optimizer)
        try:
            next(iterations)
        except NonFiniteError as error:
            kept = keep_evidence(error, folder)
            stopped = names in str(error) and (kept / "place.json").is_file()
        except (RuntimeError, ValueError):  # of somebody who met the number later
            stopped = False
        else:
            stopped = False
        training.close()
        same = all(torch.equal(a, b) for a, b in zip(before, watched, strict=True))
        return stopped and same and _count_steps(learner.optimizer) == steps

    return trial


def _hurt_observation(training: Training, rng: random.Random) -> None:
    account = training.collector._carrier["account"]
    account.view(-1)[rng.randrange(account.numel())] = rng.choice(VALUES)


def _hurt_window(training: Training, rng: random.Random) -> None:
    (window,) = [m for m in training.model.modules() if isinstance(m, BarWindow)]
    window.features = torch.full_like(window.features, math.nan)


def _hurt_rollout(key: tuple[str, ...]) -> Callable[[Training, random.Random], None]:
    def hurt(training: Training, rng: random.Random) -> None:
        update = training.learner.update

        def updated(batch: TensorDictBase) -> dict[str, Tensor]:
            value = batch[key]
            value.view(-1)[rng.randrange(value.numel())] = rng.choice(VALUES)
            return update(batch)

        training.learner.update = updated  # type: ignore[method-assign]

    return hurt


def _hurt_advantage(training: Training, rng: random.Random) -> None:
    advantage = training.learner.advantage

    def estimated(batch: TensorDictBase) -> None:
        advantage(batch)
        value = batch["advantage"]
        value.view(-1)[rng.randrange(value.numel())] = rng.choice(VALUES)

    training.learner.advantage = estimated  # type: ignore[assignment]


def _hurt_loss(training: Training, rng: random.Random) -> None:
    key = rng.choice(["loss_objective", "loss_critic", "loss_entropy"])
    value = rng.choice(VALUES)
    training.learner.loss.register_forward_hook(lambda _, __, out: out.set(key, out[key] + value))


def _hurt_gradient(training: Training, rng: random.Random) -> None:
    parameter = rng.choice(list(training.learner.loss.parameters()))
    place, value = rng.randrange(parameter.numel()), rng.choice(VALUES)

    def spoil(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[place] = value
        return gradient

    parameter.register_hook(spoil)


PLACES: dict[str, Callable[[Path, random.Random], bool]] = {
    "a file of bars": _in_file,
    "an observed account": _in_training(_hurt_observation, "observation account"),
    "an observed window": _in_training(_hurt_window, "observation window"),
    "an account of the rollout": _in_training(_hurt_rollout(("next", "account")), "next/account"),
    "a reward": _in_training(_hurt_rollout(("next", "reward")), "next/reward"),
    "an advantage": _in_training(_hurt_advantage, "advantage"),
    "a loss": _in_training(_hurt_loss, "loss"),
    "a gradient": _in_training(_hurt_gradient, "gradient of"),
}


def _small_training() -> Training:
    generator = torch.Generator().manual_seed(0)
    steps = 1e-3 * torch.randn(600, generator=generator, dtype=torch.float64)
    close = 100.0 * steps.cumsum(0).exp()
    open_ = torch.cat([close[:1], close[:-1]])
    high, low = torch.maximum(open_, close), torch.minimum(open_, close)
    table = BarTable.from_arrays(torch.stack([open_, high, low, close, close], -1))
    cfg = RunConfig(
        total_frames=4 * 16 * _ENV.lanes,
        env=_ENV,
        model=_MODEL,
        train=TrainConfig(steps=16, epochs=2, minibatch=32),
    )
    torch.manual_seed(0)
    market = make_env(table, _ENV, record_fills=False)
    return Training(cfg, table, market, make_model(cfg.model, _ENV, table))


def _count_steps(optimizer: torch.optim.Optimizer) -> float:
    return sum(float(state["step"]) for state in optimizer.state.values())
