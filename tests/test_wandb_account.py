"""W&B goes online where there is an account, and never asks for one."""

import os
import pwd

import pytest

from pipelines.tracking.wandb_account import wandb_mode

KEY = "0123456789" * 4


@pytest.mark.parametrize(
    ("wanted", "variables", "netrc", "mode"),
    [
        ("auto", {}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "", "online"),
        ("auto", {}, f"machine api.wandb.ai login user password {KEY}", "online"),
        ("auto", {}, f"machine api.forge.coreweave.com login user password {KEY}", "online"),
        ("auto", {}, f"machine example.org login user password {KEY}", "offline"),
        ("auto", {}, "not a netrc file", "offline"),
        ("auto", {"WANDB_BASE_URL": "https://wandb.example.org"}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "disabled"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "", "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "online"),
        ("online", {}, "", "offline"),
        ("offline", {"WANDB_API_KEY": KEY}, "", "offline"),
        ("disabled", {"WANDB_API_KEY": KEY}, "", "disabled"),
    ],
)
def test_online_only_with_an_account(monkeypatch, tmp_path, wanted, variables, netrc, mode):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc:
        (tmp_path / "netrc").write_text(netrc)
    assert wandb_mode(wanted) == mode


def test_a_user_of_a_container_without_a_home_has_no_account(monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert os.path.expanduser("~") == "~"
    assert wandb_mode("auto") == "offline"
