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

    ``auto`` heeds the variable WANDB_MODE, else ``wandb offline`` and ``wandb disabled``, and is
    online only if there is an account. So is ``online``, with a warning if there is none.
    """
    if wanted in ("offline", "disabled"):
        return wanted
    wish = (os.environ.get("WANDB_MODE") or _setting("mode")).lower()
    if wanted == "auto" and wish in ("offline", "dryrun", "disabled"):
        return "disabled" if wish == "disabled" else "offline"
    if _has_account():
        return "online"
    if wanted == "online":
        _LOG.warning("wandb.mode=online, but there is no account (`wandb login`): staying offline")
    return "offline"


def _has_account() -> bool:
    """Whether W&B would find a key by itself, in its variable or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    address = os.environ.get("WANDB_BASE_URL") or _setting("base_url")
    own = urlsplit(address).netloc  # with its port: the key of a server stands under both
    hosts = [own] if own and own not in _HOSTS else _HOSTS
    for place in _netrc_files():
        try:
            if any(map(netrc.netrc(place).authenticators, hosts)):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _setting(name: str) -> str:
    """What W&B's own commands have set, as ``wandb login --host`` and ``wandb offline`` do.

    They write into the home folder and, which counts more, into WANDB_DIR or the folder that they
    are called in.
    """
    settings = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, ValueError, RuntimeError):
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
        settings.read(folder / "settings")
    with contextlib.suppress(configparser.Error, OSError, ValueError, RuntimeError):
        here = Path(os.environ.get("WANDB_DIR", "")).expanduser()
        settings.read(here / (".wandb" if (here / ".wandb").exists() else "wandb") / "settings")
    return settings.get("default", name, fallback="")


def _netrc_files() -> list[Path]:
    """Where a key may be kept; nowhere for a user of a container without name and home folder."""
    named = os.environ.get("NETRC")
    if named:
        return [Path(named)]
    try:
        return [Path.home() / ".netrc", Path.home() / "_netrc"]
    except RuntimeError:
        return []
