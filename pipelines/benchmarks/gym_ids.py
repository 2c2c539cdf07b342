"""Gymnasium ids of the known-answer markets: ``pricetaker/AR1-v0`` and its siblings.

``gymnasium.make("pipelines.benchmarks.gym_ids:pricetaker/AR1-v0")``, or import this module first.
Bars and parameters are those of the preset ``data=synthetic/ar1``; `seed` draws other bars.
"""

from typing import Any

import gymnasium

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.gym_market import MarketGymEnv, MarketVectorEnv
from envs.table import build_table
from pipelines.config import compose_config

KNOWN_IDS = {
    "martingale": "pricetaker/Martingale-v0",
    "heavy_tails": "pricetaker/HeavyTails-v0",
    "drift": "pricetaker/Drift-v0",
    "ar1": "pricetaker/AR1-v0",
    "planted": "pricetaker/Planted-v0",
    "regimes": "pricetaker/Regimes-v0",
    "bracket": "pricetaker/Bracket-v0",
}


def known_market(name: str, seed: int = 0) -> tuple[BarTable, EnvConfig]:
    """Bars and parameters of a known-answer market."""
    words = [f"data=synthetic/{name}", f"data.synthetic.seed={seed}"]
    cfg = compose_config("ppo_transformer", words)
    table = build_table(cfg.data, window=cfg.env.window, episode_bars=cfg.env.episode_bars)
    return table, cfg.env


def make_single(name: str, *, seed: int = 0, **kwargs: Any) -> MarketGymEnv:
    """One lane of a known-answer market."""
    return MarketGymEnv(*known_market(name, seed), **kwargs)


def make_vector(name: str, *, seed: int = 0, **kwargs: Any) -> MarketVectorEnv:
    """Lanes of a known-answer market."""
    return MarketVectorEnv(*known_market(name, seed), **kwargs)


for _name, _id in KNOWN_IDS.items():
    gymnasium.register(
        _id,
        # Names: a `spec` of functions would have no JSON.
        entry_point=f"{__name__}:{make_single.__name__}",
        vector_entry_point=f"{__name__}:{make_vector.__name__}",
        kwargs={"name": _name},
    )
