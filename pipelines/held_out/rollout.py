"""A policy over the tiles of a split: every tile a lane, all lanes through one batch."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from tensordict import TensorDict, TensorDictBase, pad
from torch import Tensor
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.bar_table import BarTable
from envs.checks import require
from envs.config import EnvConfig
from envs.episodes import tile
from envs.factory import account_norm
from envs.ledger import FILLS, HEADS
from envs.market import REWARD_EQUITY_FLOOR, MarketEnv
from envs.trace_reader import to_frame
from envs.trace_rows import Chunk, RowMaker
from pipelines.non_finite import refuse_non_finite
from pipelines.rollout_policy import RolloutPolicy

Policy = Callable[[TensorDictBase], TensorDictBase]

_LOG_PROBS = tuple(("action", f"{head}_log_prob") for head in HEADS)
_STATE = ("bar", "ledger")
# What the trace is written from, and what two rollouts are compared by; the rest of a step is
# dropped at once.
_KEPT = (
    *(("params", head, "logits") for head in HEADS),
    *(("action", head) for head in HEADS),
    *_LOG_PROBS,
    "state_value",
    ("next", "bar"),
    ("next", "fills"),
    ("next", "terminated"),
    ("next", "truncated"),
)


@dataclass(frozen=True)
class Rollout:
    """One episode of every account on every tile.

    Attributes:
        batch: [tiles, accounts, T], time last; T is the longest tile.
        alive: bool [tiles, accounts, T], the steps before and at an episode's end. What follows
            it in the batch means nothing.
    """

    batch: TensorDict
    alive: Tensor

    @classmethod
    def join(cls, parts: Sequence["Rollout"]) -> "Rollout":
        """The tiles of all parts of `play_parts`."""
        batch = TensorDict.cat([part.batch for part in parts], 0)
        return cls(batch, torch.cat([part.alive for part in parts]))

    def of(self, account: int) -> "Rollout":
        """One account alone, in memory of its own."""
        batch = self.batch[:, account : account + 1].clone()
        return Rollout(batch, self.alive[:, account : account + 1].clone())

    @property
    def accounts(self) -> int:
        """Accounts on a tile."""
        return self.batch.batch_size[1]

    def rows(self, table: BarTable, cfg: EnvConfig, account: int = 0) -> pd.DataFrame:
        """The trace of one account, lanes numbered by tile, as `read_trace` has it."""
        texts = dict.fromkeys(("run_id", "split", "asset"), "")
        batch, alive = self.batch[:, account], self.alive[:, account]
        return to_frame(RowMaker(table, cfg, texts).table(Chunk.copy(batch, None, alive)))


def split_tiles(table: BarTable, cfg: EnvConfig, split: str, limit: int | None = None) -> Tensor:
    """First and last bar of every tile of a split, in order: int64 [tiles, 2].

    Tiles of one run follow each other without a gap. Between two runs lies what cannot be traded:
    a hole in the data, and the warm-up of the features and the window after it.

    Args:
        table: the market.
        cfg: `window` and `episode_bars`.
        split: ``train``, ``val`` or ``test``.
        limit: at most so many tiles, the first ones.

    Raises:
        ValueError: if the split is unknown or holds no window with a bar after it, or the table
            several markets.
    """
    table = table.one_asset()  # tiles of several would not follow each other
    if limit is not None:
        require(limit >= 1, "episodes", limit, "a whole number, at least 1; none for all")
    bounds = tile(table.runs(split), cfg.window, cfg.episode_bars)[:limit]
    require(len(bounds) > 0, "split", split, f"a split with more than {cfg.window} bars in a row")
    return bounds


def tile_times(table: BarTable, bounds: Tensor) -> pd.DatetimeIndex:
    """Opening times of all bars that tiles step into, in order.

    Args:
        table: the market.
        bounds: int64 [tiles, 2], in the order of time.
    """
    bars = torch.cat([torch.arange(first + 1, last + 1) for first, last in bounds.tolist()])
    return pd.to_datetime(table.timestamp[bars].cpu().numpy(), utc=True)


def market_tiles(table: BarTable, cfg: EnvConfig, split: str, limit: int) -> Tensor:
    """At most `limit` tiles of a split, but one at least of each market: its first ones.

    Tiles of one market's split are in the order of time, markets are not: what they return must
    not be chained.

    Raises:
        ValueError: if a market's split holds no window with a bar after it.
    """
    names, bounds = table.asset_names, []
    for i, name in enumerate(names):
        share = max(1, limit // len(names) + (i < limit % len(names)))
        offset = table.meta.assets[i].rows[0] if table.meta.assets else 0
        bounds.append(split_tiles(table.one_asset(name), cfg, split, share) + offset)
    return torch.cat(bounds)


def play_tiles(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    policy: Policy,
    *,
    accounts: int = 1,
    max_lanes: int = 256,
    bulk: bool = True,
    device: torch.device | str = "cpu",
) -> Rollout:
    """Play every tile once with fresh accounts; what is held at its end is closed, with costs.

    A probabilistic policy takes the most likely action of each head.

    Args:
        table: the market.
        cfg: the simulator's parameters; `paths`, `accounts` and `workers` are not read.
        bounds: from `split_tiles`.
        policy: writes ``action`` into a TensorDict [tiles, accounts] with the environment's keys,
            ``account`` normalised as in training.
        accounts: accounts on each tile.
        max_lanes: tiles x accounts that are played at a time, which bounds the memory.
        bulk: let a `RolloutPolicy` encode the windows of all steps before the first one.
        device: where the environment lives and the policy is run.

    Raises:
        NonFiniteError: if a log-probability of an action is no number.
        ValueError: if the policy returns no TensorDict, or changes ``bar`` or ``ledger``.
    """
    return Rollout.join(
        list(
            play_parts(
                table, cfg, bounds, policy, accounts=accounts, max_lanes=max_lanes, bulk=bulk,
                device=device,
            )
        )
    )  # fmt: skip


def play_parts(
    table: BarTable,
    cfg: EnvConfig,
    bounds: Tensor,
    policy: Policy,
    *,
    accounts: int = 1,
    max_lanes: int = 256,
    bulk: bool = True,
    device: torch.device | str = "cpu",
) -> Iterator[Rollout]:
    """The same, some tiles at a time: who needs little of each part need not hold them all.

    What is encoded ahead is played in parts of one length, so that no tile begins anew while others
    go on, which would cost all of them their windows once more. Every part is filled up to the
    steps of the longest tile.
    """
    share = max(1, max_lanes // accounts)
    longest = int((bounds[:, 1] - bounds[:, 0]).max())
    ahead = bulk and isinstance(policy, RolloutPolicy)
    for part in _of_one_length(bounds, share) if ahead else bounds.split(share):
        length = int((part[:, 1] - part[:, 0]).max())
        env = _evaluation_env(table, cfg, part, accounts, device)
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            batch = _play(env, policy, length, bulk)
        # Of logits that are none the most likely action is the first one: a short.
        refuse_non_finite(batch, [key for key in _LOG_PROBS if key in batch.keys(True)])
        done = (batch["next", "terminated"] | batch["next", "truncated"]).squeeze(-1)
        ended_before = done.cumsum(-1) - done.long() > 0
        missing = longest - length
        batch = pad(batch, [0, 0, 0, 0, 0, missing]) if missing else batch
        yield Rollout(batch, F.pad(~ended_before, (0, missing)))


def _of_one_length(bounds: Tensor, most: int) -> Iterator[Tensor]:
    """Neighbouring tiles of the same length, at most so many together."""
    changes = (bounds[:, 1] - bounds[:, 0]).diff().nonzero().flatten() + 1
    for run in bounds.tensor_split(changes):
        yield from run.split(most)


def log_growth(rollout: Rollout, initial_cash: float) -> Tensor:
    """Log growth of equity over every tile, net of costs, float64 [tiles, accounts].

    As in the reward, equity counts at least as a hundredth of the initial cash.
    """
    return (final_equity(rollout) / initial_cash).clamp_min(REWARD_EQUITY_FLOOR).log()


def chain(final: Tensor, initial_cash: float) -> Tensor:
    """Total returns, each tile's carried into the next, of what accounts had at the end of each.

    The number that `pipelines.judging.metrics.measure` finds in the rows of an account, without
    the rows.

    Args:
        final: from `final_equity`, float64 [tiles, accounts], tiles in the order of time; below
            zero is a total loss.
        initial_cash: what every tile starts with.

    Returns:
        float64 [accounts].
    """
    growth = final.clamp_min(0.0) / initial_cash
    before = growth[:-1].cumprod(0)[-1] if len(growth) > 1 else torch.ones_like(growth[0])
    return initial_cash * growth[-1] * before / initial_cash - 1.0


def final_equity(rollout: Rollout) -> Tensor:
    """Equity at the end of every tile, float64 [tiles, accounts]."""
    equity = rollout.batch["next", "fills"][..., FILLS.index("equity")]
    last = rollout.alive.long().sum(-1, keepdim=True) - 1
    return equity.gather(-1, last).squeeze(-1)


def evaluation_config(cfg: EnvConfig, tiles: int, accounts: int = 1) -> EnvConfig:
    """The parameters under which tiles are played: what is held at a tile's end is closed."""
    return dataclasses.replace(cfg, paths=tiles, accounts=accounts, workers=0, flatten_at_end=True)


def _evaluation_env(
    table: BarTable, cfg: EnvConfig, bounds: Tensor, accounts: int, device: torch.device | str
) -> TransformedEnv:
    cfg = evaluation_config(cfg, len(bounds), accounts)
    return TransformedEnv(MarketEnv(table, cfg, starts=bounds, device=device), account_norm(cfg))


def _play(env: TransformedEnv, policy: Policy, length: int, bulk: bool) -> TensorDict:
    """`length` steps of all lanes; a lane that is done starts anew, which its caller ignores."""
    if isinstance(policy, RolloutPolicy):
        policy.announce(length if bulk else 0)
    state, steps = env.reset(), []
    for _ in range(length):
        played, state = env.step_and_maybe_reset(_act(policy, state))
        steps.append(played.select(*_KEPT, strict=False).to("cpu"))
    return TensorDict.stack(steps, -1)


def _act(policy: Policy, state: TensorDictBase) -> TensorDictBase:
    """What the policy makes of a state; of somebody's own it is looked at first.

    The state is the market's memory: ``bar -= 1`` in place would play other bars without a word.
    """
    if isinstance(policy, RolloutPolicy):  # writes its own alone; a GPU would wait for the look
        return policy(state)
    before = state.select(*_STATE).clone()
    acted = policy(state)
    if not isinstance(acted, TensorDictBase):
        told = type(acted).__name__
        raise ValueError(f"the policy returned {told}: a TensorDict with `action` is needed")
    for key in _STATE:
        if not torch.equal(acted[key], before[key]):
            raise ValueError(f"the policy changed `{key}`, by which the market goes on: copy it")
    return acted
