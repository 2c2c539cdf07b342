"""The layout of an account and of what one step did to it, as columns of packed float64 tensors.

One packed tensor instead of a dozen keys: every key of a TensorDict costs microseconds a step.
"""

HEADS = ("direction", "size", "stop_loss", "take_profit")

# Columns of the state key `ledger` (float64 [paths, accounts, len(LEDGER)]).
LEDGER = (
    "cash",  # quote currency
    "position",  # base units, negative for a short
    "entry_price",  # fill price of the entry; 0 when flat, as are the next three
    "stop_price",
    "take_profit_price",  # 0: none
    "stop_distance",  # d of the entry, unrounded, in price
    "bars_held",  # closes the position has seen
    "peak",  # largest of the initial cash and the episode's equities after each step
    "last_bar",  # pointer at which the path's episode is truncated
)

# Why units were closed; the code is the index.
REASONS = ("", "signal", "flip", "stop", "take_profit", "liquidation", "ruin", "end")

# Columns of the key `fills` (float64 [paths, accounts, len(FILLS)]); NaN where there is nothing,
# reasons are codes. Names and meanings are those of the trace.
FILLS = (
    "open_exit_reason",
    "open_exit_units",
    "open_exit_price",
    "requested_units",
    "entry_units",
    "entry_fill_price",
    "exit_reason",
    "exit_units",
    "exit_price",
    "fee",
    "slippage_cost",
    "funding",
    "cash",
    "position",
    "entry_price",
    "stop_price",
    "take_profit_price",
    "equity",
    "drawdown",
    "reward",
)
