"""The columns of a trace and their types, in the order of its files; what actions stand for."""

import pyarrow as pa

from envs.config import EnvConfig
from envs.ledger import FILLS, HEADS

MARKET = ("open", "high", "low", "close", "volume")
REASON_COLUMNS = ("open_exit_reason", "exit_reason")
# What the index of each head means, in the order of HEADS.
MEANINGS = ("direction_value", "risk_multiple", "stop_distance_bps", "take_profit_r")
_TYPES: dict[str, pa.DataType] = {
    "run_id": pa.string(),
    "split": pa.string(),
    "asset": pa.string(),
    "env_frame": pa.int64(),
    "lane": pa.int64(),
    "episode": pa.int64(),
    "step": pa.int64(),
    "timestamp": pa.timestamp("ns", "UTC"),
    **dict.fromkeys(MARKET, pa.float64()),
    **dict.fromkeys(HEADS, pa.int64()),
    **dict.fromkeys(MEANINGS, pa.float64()),
    "direction_value": pa.int64(),
    "log_prob": pa.float64(),
    "state_value": pa.float64(),
    **{name: pa.string() if name in REASON_COLUMNS else pa.float64() for name in FILLS},
    "terminated": pa.bool_(),
    "truncated": pa.bool_(),
}
SCHEMA = pa.schema(list(_TYPES.items()))
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)


def action_values(cfg: EnvConfig) -> dict[str, list[float]]:
    """What each index of each head stands for: side, risk multiple, bps, multiples of the stop."""
    return {
        "direction": [-1, 0, 1],
        "size": [float(multiple) for multiple in cfg.risk_multiples],
        "stop_loss": [(i + 1) * cfg.stop_step_bps for i in range(cfg.stop_steps)],
        "take_profit": [float(multiple) for multiple in cfg.take_profit_r],
    }
