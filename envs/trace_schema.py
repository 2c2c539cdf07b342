"""The columns of a trace and their types, in the order of its files."""

import pyarrow as pa

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
