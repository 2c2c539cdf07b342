"""``suite=speed``: frames a second of the environment, with the policy, and with training.

Three columns as Isaac Lab has them, beside what a frame costs and how near to the machine's matrix
products, timed in the same process, the update comes. Every cell runs in a process of its own, so
that its peak of memory is its own.
"""

import functools
import logging
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from tqdm import tqdm

from envs.bar_table import BarTable
from envs.factory import make_env
from envs.features import FEATURE_NAMES
from pipelines.advantage import sequences
from pipelines.benchmarks.benchmark_config import BenchmarkConfig
from pipelines.benchmarks.worker_pool import worker_pool
from pipelines.config import RunConfig, compose_config
from pipelines.device import pick_device
from pipelines.model import make_model
from pipelines.operations import (
    count_operations,
    large_products,
    median_seconds,
    peak_flops,
    seconds,
    seconds_in_turns,
)
from pipelines.training import Training

T = TypeVar("T")

_EPISODE_BARS = {"cpu": 96, "cuda": 240}
# Bars of a rollout: a windowed encoder's cost is the same for each, a streaming one shares more
# work the longer its sequences are, so that it gets the 32 of the default training, and on a GPU
# an episode of minutes.
_STREAMED = {"cpu": 32, "cuda": 240}
_FEW_STEPS = 8
# Tokens of a minibatch, enough for large matrix products; and frames, for what is done for each
# account must fit into memory too.
_TOKENS = {"cpu": 4_160, "cuda": 266_240}
_FRAMES = 524_288
# Passes over the windows of a rollout in one repetition: the rollout, forward and backward.
_PASSES = 4.0
_PRODUCTS = 16  # large ones, timed as one beside an update
# Dense bfloat16 products a second by the makers' data sheets, for the utilisation (MFU).
_DATA_SHEET = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2_250e12}


class Cell(NamedTuple):
    """One measurement: a network on a grid of lanes."""

    network: str
    accounts: int
    lanes: int
    window: int = 64

    def steps(self, device: torch.device) -> int:
        """Bars of a rollout."""
        return _STREAMED[device.type] if self.network == "streaming" else _FEW_STEPS

    def windows(self, device: torch.device) -> int:
        """Bars of all paths of a rollout."""
        return self.lanes // self.accounts * self.steps(device)

    def configure(self, device: torch.device) -> RunConfig:
        """The configuration of its training; an update is one epoch."""
        paths, steps = self.lanes // self.accounts, self.steps(device)
        tokens = steps + self.window if self.network == "streaming" else self.window + 1
        sequence = steps if self.network == "streaming" else 1
        items = min(
            paths * steps // sequence,
            -(-_TOKENS[device.type] // tokens),
            max(_FRAMES // (sequence * self.accounts), 1),
        )
        words = [
            *(f"model={self.network}", f"env.window={self.window}", "env.workers=0"),
            *(f"env.paths={paths}", f"env.accounts={self.accounts}"),
            *(f"env.episode_bars={_EPISODE_BARS[device.type]}", f"train.steps={steps}"),
            *("train.epochs=1", f"train.minibatch={items * sequence * self.accounts}"),
        ]
        cfg: RunConfig = compose_config("ppo_transformer", words)
        return cfg


def plan_cells(cfg: BenchmarkConfig) -> tuple[list[Cell], int]:
    """The cells that this machine does in `limit_s` of its peak, and how many it does not.

    Every network with every sharing on every grid that has as many lanes.

    Raises:
        ValueError: if there is nothing to measure, naming the key and what is allowed.
    """
    device = pick_device("auto")
    peak = peak_flops(device, "auto")
    limit_s, repeats = (1.0, 1) if cfg.quick else (cfg.limit_s, cfg.repeats)
    cells = [
        Cell(network, accounts, lanes)
        for network in cfg.networks
        for accounts in cfg.sharing
        for lanes in cfg.lanes
        if lanes >= accounts
    ]
    a_window = {network: _window_flops(network, device) for network in cfg.networks}
    passes = _PASSES * (repeats + 1)
    needed_s = [passes * c.windows(device) * a_window[c.network] / peak for c in cells]
    fitting = [cell for cell, needed in zip(cells, needed_s, strict=True) if needed <= limit_s]
    if not fitting and (cfg.quick or not cfg.growth):
        raise ValueError(_nothing_fits(cfg, min(needed_s, default=0.0)))
    return fitting, len(cells) - len(fitting)


def _nothing_fits(cfg: BenchmarkConfig, least_s: float) -> str:
    if not least_s:
        return f"lanes={cfg.lanes} is not allowed: as many as accounts (sharing={cfg.sharing})"
    given = "quick=true" if cfg.quick else f"limit_s={cfg.limit_s:g}"
    return f"{given} leaves no cell: the least takes {least_s:.3g} s of this machine's peak"


def _window_flops(network: str, device: torch.device) -> float:
    """Operations of a window of the embedded bars' features, forward, with one account."""
    cfg = Cell(network, 1, 2).configure(device)
    table = BarTable.from_arrays([[100.0] * 5] * 400, features=torch.zeros(400, len(FEATURE_NAMES)))
    sequence = cfg.sequence_length
    bars = 100 + torch.arange(sequence)[None]
    model = make_model(cfg.model, cfg.env, table)
    return count_operations(model, bars, 1, backward=False) / sequence


def time_speed(
    folder: Path, cells: list[Cell], repeats: int, epochs: int
) -> Iterator[dict[str, Any]]:
    """A row for each cell, as soon as it is measured.

    Args:
        folder: a saved table of bars.
        cells: what to measure.
        repeats: timings, of which the median counts.
        epochs: of an update in the column of training, reckoned from one that was timed.
    """
    return alone([functools.partial(time_cell, c, folder, repeats, epochs) for c in cells], "cell")


def alone(jobs: Sequence[Callable[[], T]], unit: str) -> Iterator[T]:
    """The results of `jobs`, each of a new process, one after the other."""
    with worker_pool(1, fresh=True) as pool:
        yield from tqdm(pool.imap(_call, jobs), total=len(jobs), unit=unit, disable=None)


def _call(job: Callable[[], T]) -> T:
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    return job()


def time_cell(cell: Cell, folder: Path, repeats: int, epochs: int) -> dict[str, Any]:
    """Measure one cell in this process."""
    device = pick_device("auto")
    cfg, steps = cell.configure(device), cell.steps(device)
    table = BarTable.load(folder)
    env = make_env(table, cfg.env, record_fills=False, device=device)
    model = make_model(cfg.model, cfg.env, table).to(device)
    training = Training(cfg, table, env, model)
    learner, rollouts = training.learner, iter(training.collector)

    def collect() -> None:
        training.policy.announce(steps)
        next(rollouts)

    first = seconds(collect, device)
    collect_s = median_seconds(collect, repeats, device)
    training.policy.announce(steps)
    rollout = next(rollouts).clone()
    first += seconds(lambda: learner.update(rollout.clone()), device)
    multiply, operations = large_products(device, cfg.train.precision, _PRODUCTS)
    advantage_s, update_s, product_s = seconds_in_turns(
        [
            lambda: learner.advantage(rollout.clone()),
            lambda: learner.update(rollout.clone()),
            multiply,
        ],
        repeats,
        device,
    )
    epoch_s = update_s - advantage_s  # and little else that is done once an update
    state = env.reset()
    actions = env.rand_action(state)

    def play() -> None:
        nonlocal state
        for _ in range(steps):
            _, state = env.step_and_maybe_reset(state.update(actions.select("action")))

    env_s = median_seconds(play, repeats, device)
    bars = sequences(rollout.select("bar"), cfg.sequence_length)["bar"][..., 0, 0]
    flops = count_operations(model, bars, cell.accounts)
    training.close()
    frames, peak = rollout.numel(), operations / product_s
    row = {
        "network": cell.network,
        "accounts": cell.accounts,
        "lanes": cell.lanes,
        "env, frames/s": frames / env_s,
        "env + policy, frames/s": frames / collect_s,
        f"training, {epochs} epochs, frames/s": frames
        / (collect_s + advantage_s + epochs * epoch_s),
        "update, MFLOP a frame and epoch": flops / frames / 1e6,
        "update, GFLOP/s": flops / epoch_s / 1e9,
        "share of the GEMM peak": flops / epoch_s / peak,
        "GEMM peak, GFLOP/s": peak / 1e9,
        "peak memory, MiB": peak_memory(device) / 2**20,
        "bytes a stored frame": sum(v.nbytes for v in rollout.values(True, True)) / frames,
    }
    if learner.is_compiled:
        row["compile, s"] = first - collect_s - update_s
    if device.type == "cuda":
        row["MFU"] = _utilisation(flops / epoch_s)
    return row


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that was allocated on a GPU, else the process's largest resident set.

    Linux tells that of this program; what getrusage says counts the parent, before it was forked.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        (told,) = (line for line in status.read_text("utf-8").splitlines() if "VmHWM" in line)
        return 1024 * int(told.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _utilisation(flops: float) -> float | None:
    """Share of what the GPU's data sheet promises; None for a GPU that is not known here."""
    name = torch.cuda.get_device_name()
    sheet = [value for known, value in _DATA_SHEET.items() if known in name]
    return flops / sheet[0] if sheet else None
