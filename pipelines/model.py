"""The network of a configuration, on a table of bars."""

from torchrl.modules import ActorValueOperator

from envs.bar_table import BarTable
from envs.config import EnvConfig
from envs.observation import NUM_ACCOUNT
from modules.config import ModelConfig
from modules.policy import make_actor_value


def make_model(cfg: ModelConfig, env_cfg: EnvConfig, table: BarTable) -> ActorValueOperator:
    """Actor and critic of the sizes in `cfg`, for the table's features and the market's actions."""
    return make_actor_value(
        cfg,
        features=table.features,
        loc=table.loc,
        scale=table.scale,
        window=env_cfg.window,
        num_actions=env_cfg.num_actions,
        num_account=NUM_ACCOUNT,
    )
