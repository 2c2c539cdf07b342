"""Whether Weights & Biases may be reached, without anybody being asked."""

import configparser
import contextlib
import logging
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

# Where the service answers, under the older name and the one that newer clients ask.
_HOSTS = ["api.wandb.ai", "api.forge.coreweave.com"]
_LOG = logging.getLogger(__name__)


def wandb_mode(wanted: str) -> str:
    """The mode that W&B is started in: never one that would ask for an account.

    ``auto`` heeds the variable WANDB_MODE, and is online only if there is an account. So is
    ``online``, with a warning if there is none.
    """
    if wanted in ("offline", "disabled"):
        return wanted
    variable = os.environ.get("WANDB_MODE", "").lower()
    if wanted == "auto" and variable in ("offline", "dryrun", "disabled"):
        return "disabled" if variable == "disabled" else "offline"
    if _has_account():
        return "online"
    if wanted == "online":
        _LOG.warning("wandb.mode=online, but there is no account (`wandb login`): staying offline")
    return "offline"


def _has_account() -> bool:
    """Whether W&B would find a key by itself, in its variable or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    own = urlsplit(_own_server()).netloc  # with its port: the key of a server stands under both
    hosts = [own] if own and own not in _HOSTS else _HOSTS
    for place in _netrc_files():
        try:
            if any(map(netrc.netrc(place).authenticators, hosts)):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _own_server() -> str:
    """The server that is asked, of the variable or of `wandb login --host`; empty: the service."""
    named = os.environ.get("WANDB_BASE_URL")
    if named:
        return named
    settings = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, ValueError, RuntimeError):
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        settings.read(folder / "settings")
    return settings.get("default", "base_url", fallback="")


def _netrc_files() -> list[Path]:
    """Where a key may be kept; nowhere for a user of a container without name and home folder."""
    named = os.environ.get("NETRC")
    if named:
        return [Path(named)]
    try:
        return [Path.home() / ".netrc", Path.home() / "_netrc"]
    except RuntimeError:
        return []
