"""``suite=speed``: frames a second of the environment, with the policy, and with training.

Three columns as Isaac Lab has them, beside what a frame costs and how near to the machine's matrix
products, timed in the same run, the update comes.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchrl.modules import ActorValueOperator

from envs.factory import make_env
from envs.table import BarTable
from pipelines.advantage import path_times
from pipelines.config import RunConfig, compose_config
from pipelines.device import pick_device
from pipelines.model import make_model
from pipelines.training import Training

NETWORKS = ("mission", "aligned", "mlp")
SHARING = (1, 4, 16, 64)
# Windows of an iteration: enough for the matrix products to be large, few enough for two cores.
_PATHS, _STEPS = 8, 8
_GEMM = 2_048


def time_speed(folder: Path, repeats: int, epochs: int) -> list[dict[str, Any]]:
    """A row for each network and number of accounts that share a window.

    Args:
        folder: a saved table of bars.
        repeats: timings, of which the median counts.
        epochs: of an update.
    """
    table, device = BarTable.load(folder), pick_device("auto")
    peak = gemm_flops(device, repeats)
    rows = []
    for network in NETWORKS:
        for accounts in SHARING:
            row = _time_network(_configure(network, accounts, epochs), table, device, repeats)
            row = {"network": network, **row}
            row["share of the GEMM peak"] = row["GFLOP/s"] / (peak / 1e9)
            rows.append(row)
    return rows


def gemm_flops(device: torch.device, repeats: int) -> float:
    """Operations a second of a large matrix product in float32, on CUDA in bfloat16."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = torch.randn(2, _GEMM, _GEMM, device=device, dtype=dtype)
    return 2 * _GEMM**3 / _median_seconds(lambda: torch.mm(a, b), repeats, device)


def _time_network(
    cfg: RunConfig, table: BarTable, device: torch.device, repeats: int
) -> dict[str, Any]:
    env = make_env(table, cfg.env, record_fills=False, device=device)
    training = Training(cfg, table, env, make_model(cfg.model, cfg.env, table).to(device))
    rollouts = iter(training.collector)
    collect = _median_seconds(lambda: next(rollouts), repeats, device)
    rollout = next(rollouts)
    flops = cfg.train.epochs * _count_flops(training.model, rollout)
    update = _median_seconds(lambda: training.learner.update(rollout.clone()), repeats, device)
    state = env.reset()
    actions = env.rand_action(state)

    def play() -> None:
        nonlocal state
        for _ in range(_STEPS):
            _, state = env.step_and_maybe_reset(state.update(actions.select("action")))

    alone = _median_seconds(play, repeats, device)
    training.close()
    frames = rollout.numel()
    return {
        "accounts": cfg.env.accounts,
        "lanes": cfg.env.lanes,
        "env, frames/s": frames / alone,
        "env + policy, frames/s": frames / collect,
        "training, frames/s": frames / (collect + update),
        "update, GFLOP a frame": flops / frames / 1e9,
        "GFLOP/s": flops / update / 1e9,
        "bytes a stored frame": sum(v.nbytes for v in rollout.values(True, True)) / frames,
    }


def _count_flops(model: ActorValueOperator, rollout: TensorDictBase) -> float:
    """Operations of one pass forward and backward through the model for every frame."""
    items = path_times(rollout.select("bar", "account"))
    # The fused attention of a CPU is not counted; that of plain products is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model.get_value_head()(model.get_policy_operator()[:-1](items))
        heads = [value for value in out.values(True, True) if value.requires_grad]
        torch.stack([value.float().sum() for value in heads]).sum().backward()
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def _configure(network: str, accounts: int, epochs: int) -> RunConfig:
    words = [
        *(f"model={network}", f"env.paths={_PATHS}", f"env.accounts={accounts}", "env.workers=0"),
        *(f"train.steps={_STEPS}", f"train.epochs={epochs}", "env.episode_bars=96"),
        f"train.minibatch={_PATHS * _STEPS * accounts // 2}",
    ]
    cfg: RunConfig = compose_config("ppo_transformer", words)
    return cfg


def _median_seconds(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Of one call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])
