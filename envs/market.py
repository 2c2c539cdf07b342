"""The market environment: a grid of accounts on paths of bars, as a batched TorchRL environment."""

from functools import partial
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from envs.action import ActionBuckets, find_outside, read_indices, read_order
from envs.bar_table import BarTable
from envs.compiled import CompiledBar, log
from envs.config import EnvConfig
from envs.episodes import FixedStarts, RandomStarts, check_shared_clock
from envs.ledger import FILLS, HEADS, LEDGER
from envs.observation import NUM_ACCOUNT, account_observation, relative_equity
from envs.rules import Rules, check_tick
from envs.simulator import Account, Bar, Outcome, advance
from envs.step_columns import fill_columns

REWARD_EQUITY_FLOOR = 0.01


class Terms(NamedTuple):
    """What every step of an environment has in common."""

    cfg: EnvConfig
    rules: Rules
    record_fills: bool


class MarketEnv(EnvBase):
    """A price-taker's market on historical bars, for many accounts at once.

    ### Description
    The bars are the same whatever the policy does; only cash and position depend on its actions.
    An environment is a grid of `paths` x `accounts`: a path is one pointer walking through the
    table of bars, and every account on it sees the same bars. The complete rules, with the test
    that holds each, are in ``docs/simulator.md``. State lives in the TensorDict; the environment
    keeps its generator and the clocks of its paths, and saves them with its ``state_dict``.

    ### Action Space
    ``action``: a nested TensorDict of int64 indices [paths, accounts]. An index outside its range
    raises ``IndexError`` (on CUDA ``RuntimeError``, later).

    | key | values | meaning |
    |---|---|---|
    | direction | 0, 1, 2 | target position: short, flat, long |
    | size | `risk_multiples` | multiple of `risk_pct` that a new position risks at its stop |
    | stop_loss | 0 .. `stop_steps` - 1 | stop distance (i + 1) * `stop_step_bps` |
    | take_profit | `take_profit_r` | target as a multiple of the stop distance, 0: none |

    ### Observation Space
    | key | dtype, shape after [paths, accounts] | meaning |
    |---|---|---|
    | bar | int64 [1] | pointer to the last closed bar; a network gathers its window there |
    | account | float32 [8] | see `envs.observation.account_observation` |
    | ledger | float64 [9] | the account itself (`envs.ledger.LEDGER`): state, not for networks |

    A step adds ``head_used`` (bool [4]: which heads of the action the simulator read) and, with
    `record_fills`, ``fills`` (float64 [20]: `envs.ledger.FILLS`).

    ### Rewards
    float32 [1], computed in float64: ``reward_scale`` times the change of
    ``log(max(equity, 0.01 * initial_cash))``, from which are taken first `drawdown_penalty` times
    the increase of the drawdown and `turnover_penalty` times the traded notional over the equity
    before the step.

    ### Starting State
    A path starts at a uniformly random bar of its split; an account starts flat with
    `initial_cash`. A ruined account starts anew on its path's clock.

    ### Episode End
    Termination: equity at or under `ruin_equity_frac` of the initial cash at a bar's close.
    Truncation: the path's last bar. Never both, and nothing else ends an episode.

    ### Arguments
    Args:
        table: the checked bars.
        cfg: the parameters; `workers` is not read here.
        split: ``train``, ``val`` or ``test``: the bars that paths may visit.
        starts: int64 [paths, 2], first and last bar of each path's episodes, instead of random
            ones within the split; the caller answers for windows and holes. Such episodes are
            played once, over before a compiler is: `compile` is not heeded.
        record_fills: whether steps carry ``fills``.
        device: where everything lives and is computed.
        seed: of the generator that draws the starts.

    Raises:
        ValueError: if no episode fits into the split, or the tick is too coarse for the stops.

    Examples:
        >>> from envs.bar_table import BarTable
        >>> bars = [[60_000.0, 60_050.0, 59_950.0, 60_010.0, 7.0]] * 400
        >>> env = MarketEnv(BarTable.from_arrays(bars), EnvConfig(paths=2, accounts=3))
        >>> env.rollout(4)["next", "reward"].shape
        torch.Size([2, 3, 4, 1])
    """

    _supports_set_state = True

    def __init__(
        self,
        table: BarTable,
        cfg: EnvConfig,
        *,
        split: str = "train",
        starts: Tensor | None = None,
        record_fills: bool = True,
        device: torch.device | str | None = None,
        seed: int = 0,
    ) -> None:
        paths = cfg.paths if starts is None else len(starts)
        device = torch.device(device or "cpu")
        super().__init__(device=device, batch_size=[paths, cfg.accounts])
        check_tick(table, cfg)
        self.cfg = cfg
        self.record_fills = record_fills
        runs = table.runs(split).to(device)
        self.starts = (
            RandomStarts(runs, cfg.window, cfg.episode_bars)
            if starts is None
            else FixedStarts(starts.to(device))
        )
        self.register_buffer("ohlcv", table.ohlcv.to(device), persistent=False)
        self.buckets = ActionBuckets(cfg, device)
        self.register_buffer("clock", torch.zeros(paths, dtype=torch.int64, device=device))
        self.register_buffer("last_bar", torch.zeros(paths, dtype=torch.int64, device=device))
        terms = Terms(cfg, Rules.of(cfg, table.meta.interval_s), record_fills)
        live = partial(live_one_bar, terms)
        is_compiled = device.type == "cuda" if cfg.compile is None else cfg.compile
        self._live = CompiledBar(live, device) if is_compiled and starts is None else live
        self._make_specs()
        self.set_seed(seed)

    def _make_specs(self) -> None:
        grid = self.batch_size

        def field(dtype: torch.dtype, width: int = 1) -> Unbounded:
            return Unbounded((*grid, width), dtype=dtype, device=self.device)

        def flag(width: int = 1) -> Categorical:
            return Categorical(2, shape=(*grid, width), dtype=torch.bool, device=self.device)

        def group(**specs: Any) -> Composite:
            return Composite(**specs, shape=grid, device=self.device)

        state = {"bar": field(torch.int64), "ledger": field(torch.float64, len(LEDGER))}
        steps = {"head_used": flag(len(HEADS))}
        if self.record_fills:
            steps["fills"] = field(torch.float64, len(FILLS))
        account = field(torch.float32, NUM_ACCOUNT)
        self.state_spec = group(**state)
        self.observation_spec = group(**state, account=account, **steps)
        heads = {
            head: Categorical(count, shape=grid, device=self.device)
            for head, count in self.cfg.num_actions.items()
        }
        self.full_action_spec = group(action=group(**heads))
        self.full_reward_spec = group(reward=field(torch.float32))
        self.full_done_spec = group(done=flag(), terminated=flag(), truncated=flag())

    def to(self, device: torch.device | str | int) -> "MarketEnv":
        """The environment itself, if it lives there already: a generator cannot be moved.

        Raises:
            ValueError: for another device.
        """
        if torch.empty(0, device=device).device != self.clock.device:
            raise ValueError(
                f"a MarketEnv on {self.device} cannot move to {device}: "
                "build it there, MarketEnv(..., device=...)"
            )
        return self

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.rng = torch.Generator(device=self.device).manual_seed(seed)

    def get_extra_state(self) -> dict[str, Tensor]:
        """State of the generator, for ``state_dict``."""
        return {"rng": self.rng.get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the generator."""
        self.rng.set_state(state["rng"].cpu())

    def _reset(
        self, tensordict: TensorDictBase | None = None, *, set_state: bool = False, **_: Any
    ) -> TensorDictBase:
        if set_state and tensordict is not None and "ledger" in tensordict:
            ledger, bar = tensordict["ledger"], tensordict["bar"]
            # Copies: loading a state dict writes into the clocks, here and below.
            self.clock, self.last_bar = bar[:, 0, 0].clone(), ledger[:, 0, -1].long()
            return self._show(bar, ledger, self._observe(bar, ledger))
        first, last = self.starts.sample(len(self.clock), self.rng).clone().unbind(-1)
        if tensordict is not None and "_reset" in tensordict:
            # A ruined account goes on along its path's clock: only a path at its end starts anew.
            ended = self.clock >= self.last_bar
            check_shared_clock(ended, tensordict["_reset"])
            first = torch.where(ended, first, self.clock)
            last = torch.where(ended, last, self.last_bar)
        self.clock, self.last_bar = first, last
        bar = first[:, None, None].expand(*self.batch_size, 1).clone()
        shape = (*self.batch_size, NUM_ACCOUNT)
        nothing_yet = torch.zeros(shape, dtype=torch.float32, device=self.device)
        return self._show(bar, self._fresh_ledger(), nothing_yet)

    def _fresh_ledger(self) -> Tensor:
        """Accounts that are flat and hold the initial cash."""
        shape = (*self.batch_size, len(LEDGER))
        ledger = torch.zeros(shape, dtype=torch.float64, device=self.device)
        ledger[..., LEDGER.index("cash")] = self.cfg.initial_cash
        ledger[..., LEDGER.index("peak")] = self.cfg.initial_cash
        ledger[..., LEDGER.index("last_bar")] = self.last_bar[:, None].double()
        return ledger

    def _observe(self, bar: Tensor, ledger: Tensor) -> Tensor:
        """The observation of accounts at the close of their bars."""
        account = Account(*ledger.unbind(-1))
        close = self.ohlcv[bar[:, :1, 0], 3]
        equity = account.cash + account.position * close
        log_equity = log(relative_equity(equity, self.cfg))
        return account_observation(account, close, equity, log_equity, self.cfg)

    def _show(self, bar: Tensor, ledger: Tensor, account: Tensor) -> TensorDict:
        """The tensordict of a reset: as a step's, with nothing used and nothing filled."""
        shape = (*self.batch_size, len(HEADS))
        fields = {
            "bar": bar,
            "ledger": ledger,
            "account": account,
            "head_used": torch.zeros(shape, dtype=torch.bool, device=self.device),
        }
        if self.record_fills:
            shape = (*self.batch_size, len(FILLS))
            fields["fills"] = torch.full(shape, torch.nan, dtype=torch.float64, device=self.device)
        return TensorDict(fields, self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        indices = read_indices(tensordict["action"], self.batch_size)
        bar, ledger = tensordict["bar"].contiguous(), tensordict["ledger"]
        if bar.dtype != torch.int64 or ledger.dtype != torch.float64:
            raise ValueError(
                f"bar of {bar.dtype} and ledger of {ledger.dtype} are not allowed: torch.int64 and "
                "torch.float64"
            )
        columns = ledger.permute(2, 0, 1).contiguous()
        fields = self._live(self.ohlcv, bar, columns, *self.buckets.tensors, *indices)
        self.buckets.require_within(indices, fields.pop("outside"))
        # An assignment, without nn.Module looking for the name everywhere first.
        self._buffers["clock"] = fields.pop("clock")
        # Every field is of this batch and device; to look again takes 25 us, a fifth of this.
        return TensorDict._new_unsafe(fields, batch_size=self.batch_size, device=self.device)


def live_one_bar(
    terms: Terms,
    ohlcv: Tensor,
    bar: Tensor,
    ledger: Tensor,
    values: Tensor,
    starts: Tensor,
    counts: Tensor,
    *indices: Tensor,
) -> dict[str, Tensor]:
    """What a step shows of every lane: a function of tensors alone, so that it can be compiled.

    Packed tensors are made column by column, and columns come last only in what is seen of them.
    Beside the fields of a step there are ``clock``, the bars of the paths, and ``outside``, whether
    an index is outside its range.

    Args:
        terms: the configuration.
        ohlcv: the table's bars, [N, 5].
        bar: int64 [paths, accounts, 1], pointer to bar t.
        ledger: the accounts at its close, [len(LEDGER), paths, accounts].
        values: of the `ActionBuckets`.
        starts: of the `ActionBuckets`.
        counts: of the `ActionBuckets`.
        indices: int64 [paths, accounts], the action, head by head.
    """
    bar = bar + 1
    before = Account(*ledger.unbind())
    bar_t, bar_tp1 = _bars(ohlcv, bar)
    last = bar[..., 0] >= before.last_bar
    action = torch.stack(indices)
    order = read_order(action, values, starts, counts)
    outcome = advance(terms.rules, before, order, bar_tp1, bar_t[..., 4], last)
    equity_t = before.cash + before.position * bar_t[..., 3]
    growth, log_equity = _logarithms(terms.cfg, equity_t, outcome.equity)
    reward = _reward(terms.cfg, before, outcome, equity_t, growth)
    terminated = outcome.ruined[..., None]
    truncated = last[..., None] & ~terminated
    opened = outcome.entry.wanted
    fields = {
        "bar": bar,
        "ledger": torch.stack(outcome.account).movedim(0, -1),
        "account": account_observation(
            outcome.account, bar_tp1.close, outcome.equity, log_equity, terms.cfg
        ),
        "head_used": torch.stack([outcome.direction_used, opened, opened, opened], -1),
        "reward": reward[..., None].float(),
        "done": terminated | truncated,
        "terminated": terminated,
        "truncated": truncated,
        "clock": bar[:, 0, 0].clone(),
        "outside": find_outside(action, counts).any(),
    }
    if terms.record_fills:
        fields["fills"] = fill_columns(outcome, reward)
    return fields


def _bars(ohlcv: Tensor, bar: Tensor) -> tuple[Tensor, Bar]:
    """Row of bar t, and bar t+1, to which `bar` points."""
    # Accounts on a path share its bar; a compiled loop over lanes is faster with one for each.
    path = bar[..., 0] if torch.compiler.is_compiling() else bar[:, :1, 0]
    # Past the end of the table the last bar stands still.
    now = path.clamp_max(len(ohlcv) - 1)
    return ohlcv[now - 1], Bar(*ohlcv[now].unbind(-1)[:4])


def _logarithms(cfg: EnvConfig, equity_t: Tensor, equity: Tensor) -> tuple[Tensor, Tensor]:
    """Change of the log of the equity above its floor, and log of equity over initial cash."""
    floor = REWARD_EQUITY_FLOOR * cfg.initial_cash
    floored = [equity_t.clamp_min(floor), equity.clamp_min(floor)]
    log_t, log_tp1, log_equity = log(torch.stack([*floored, relative_equity(equity, cfg)]))
    return log_tp1 - log_t, log_equity


def _reward(
    cfg: EnvConfig, before: Account, outcome: Outcome, equity_t: Tensor, growth: Tensor
) -> Tensor:
    """Change of log equity and the weighted terms, float64 [paths, accounts]."""
    reward = growth
    if cfg.drawdown_penalty:
        deeper = (outcome.drawdown - (1.0 - equity_t / before.peak)).clamp_min(0.0)
        reward = reward - cfg.drawdown_penalty * deeper
    if cfg.turnover_penalty:
        floor = REWARD_EQUITY_FLOOR * cfg.initial_cash
        legs = (outcome.open_exit, outcome.entry, outcome.exit)
        traded = sum((leg.units * leg.price).abs() for leg in legs)
        reward = reward - cfg.turnover_penalty * traded / equity_t.clamp_min(floor)
    return cfg.reward_scale * reward
