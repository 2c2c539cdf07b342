"""What a trained policy wants on the last closed bar of a file, for an account that is flat.

The file needs the bars of the window and those in which the columns warm up: 374, or those of the
longest of `data.timeframes`. Its last row must be a bar that has closed. Nothing is traded.

    python examples/decide_on_the_last_bar.py runs/NAME bars.parquet
"""

import dataclasses
import sys
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from envs.bar_files import time_text
from envs.observation import NUM_ACCOUNT, account_scale
from envs.table import load_columns
from envs.trace_schema import action_values
from modules.live import LiveMarket
from modules.policy import make_actor_value, policy_after_market
from pipelines.checkpoint_store import load_newest
from pipelines.refusal import plain_refusals


def main(run: str, path: str, account: Tensor | None = None) -> dict[str, float]:
    """Decide; `account` holds the columns of `envs.observation.ACCOUNT`, zeros when fresh."""
    trained = load_newest(Path(run) / "checkpoints")
    cfg = trained.config
    bars, columns, names = load_columns(dataclasses.replace(cfg.data, path=path, assets=None))
    trained.require_features(names)
    known = trained.manifest["data"]["interval_s"]
    if bars.interval_s != known:
        raise ValueError(f"{path}: bars of {bars.interval_s:g} s, the policy knows {known:g} s")
    window, features = cfg.env.window, torch.from_numpy(columns)
    if len(features) < window:
        raise ValueError(f"{path}: {len(features)} bars; the policy looks at {window}")
    model = make_actor_value(
        cfg.model,
        features=features,
        loc=torch.zeros(len(names)),
        scale=torch.ones(len(names)),
        window=window,
        num_actions=cfg.env.num_actions,
        num_account=NUM_ACCOUNT,
    )
    trained.load_model_state(model)  # with the normaliser of the training
    live = LiveMarket(model)
    for bar in features[-window:]:  # who goes on from here pushes each bar once, when it has closed
        state = live.push(bar)
    seen = torch.zeros(NUM_ACCOUNT) if account is None else account.float()
    if seen.shape != (NUM_ACCOUNT,) or not seen.isfinite().all():
        # The most likely action of what is no number would be the first one: a short.
        raise ValueError(f"account={seen.tolist()}: {NUM_ACCOUNT} finite numbers are needed")
    seen = TensorDict(market_state=state[None], account=(seen / account_scale(cfg.env))[None])
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        chosen = policy_after_market(model)(seen.auto_batch_size_(1))["action"]
    meant = {head: each[int(chosen[head])] for head, each in action_values(cfg.env).items()}
    side = {-1: "short", 0: "flat", 1: "long"}[int(meant["direction"])]
    order = f"{side}, risk multiple {meant['size']:g}, stop {meant['stop_loss']:g} bps away, "
    order += f"target {meant['take_profit']:g} times that" if meant["take_profit"] else "no target"
    order = "flat" if side == "flat" else order
    print(f"after the bar of {time_text(int(bars.time_ns[-1]))}: {order}")
    return meant


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with plain_refusals():
        main(*sys.argv[1:])
