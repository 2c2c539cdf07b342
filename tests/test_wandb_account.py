"""W&B goes online where there is an account, and never asks for one."""

import os
import pwd

import pytest

from pipelines.tracking.wandb_account import wandb_mode

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def nobody_has_logged_in(monkeypatch, tmp_path):
    """A machine without an account, whatever the tests run on."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


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
        (
            "auto",
            {"WANDB_BASE_URL": "http://localhost:8080"},
            f"machine localhost:8080 login user password {KEY}",
            "online",
        ),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "disabled"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "", "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "online"),
        ("online", {}, "", "offline"),
        ("offline", {"WANDB_API_KEY": KEY}, "", "offline"),
        ("disabled", {"WANDB_API_KEY": KEY}, "", "disabled"),
    ],
)
def test_online_only_with_an_account(monkeypatch, tmp_path, wanted, variables, netrc, mode):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc:
        (tmp_path / "netrc").write_text(netrc)
    assert wandb_mode(wanted) == mode


@pytest.mark.parametrize(
    ("settings", "host", "mode"),
    [
        ("[default]\nbase_url = http://localhost:8080\n\n", "localhost:8080", "online"),
        ("[default]\nbase_url = http://localhost:8080\n\n", "api.wandb.ai", "offline"),
        ("[default]\nbase_url = https://api.wandb.ai\n\n", "api.wandb.ai", "online"),
        ("[default]\nproject = mine\n\n", "api.wandb.ai", "online"),
        ("no settings", "api.wandb.ai", "online"),
        (b"\xff", "api.wandb.ai", "online"),
    ],
)
def test_an_account_is_that_of_the_server_that_a_person_has_logged_in_to(
    tmp_path, settings, host, mode
):
    """``wandb login --host`` writes the key and, in a file of settings, whose it is."""
    text = settings if isinstance(settings, bytes) else settings.encode()
    (tmp_path / "settings").write_bytes(text)
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
    assert wandb_mode("auto") == mode


@pytest.mark.parametrize(
    ("here", "variable", "mode"),
    [
        ("mode = offline", "", "offline"),
        ("mode = disabled", "", "disabled"),
        ("mode = online", "", "online"),
        ("mode = offline", "online", "online"),
        ("base_url = http://localhost:8080", "", "offline"),
    ],
)
def test_what_w_and_b_was_told_in_this_folder_is_heeded(
    monkeypatch, tmp_path, here, variable, mode
):
    """``wandb offline`` and the like write a file into the folder that they are called in."""
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}")
    (tmp_path / "settings").write_text("[default]\nmode = online\n")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\n{here}\n")
    monkeypatch.setenv("WANDB_MODE", variable)
    assert wandb_mode("auto") == mode
    assert wandb_mode("online") == ("offline" if "base_url" in here else "online")


def test_what_w_and_b_was_told_where_its_runs_are_kept_is_heeded(monkeypatch, tmp_path):
    """``wandb offline`` writes there, wherever it is called: as on a pod, whose image names it."""
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}")
    (tmp_path / "kept" / "wandb").mkdir(parents=True)
    (tmp_path / "kept" / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "kept"))
    assert wandb_mode("auto") == "offline"


def test_a_user_of_a_container_without_a_home_has_no_account(monkeypatch):
    for name in ("NETRC", "HOME", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert os.path.expanduser("~") == "~"
    assert wandb_mode("auto") == "offline"
