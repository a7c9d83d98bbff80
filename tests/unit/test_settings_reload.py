"""Which new settings a running daemon applies."""

import pytest

from relay.errors import ConfigError
from relay.settings import Settings, describe_settings, load_settings
from relay.settings.reload import merge

APP = "RELAY_APPS__SHOP__"

BASE = {
    "RELAY_DATA_DIR": "/nowhere/data",
    f"{APP}ONESIGNAL_APP_ID": "11111111-2222-4333-8444-555555555555",
    f"{APP}WEBHOOK_TOKENS": "old-token",
    f"{APP}AMPLITUDE_API_KEY": "old-key",
}

OTHER = {
    f"{APP}WEBHOOK_TOKENS": "old-token,new-token",
    f"{APP}EVENTS": "message.push.*",
    "RELAY_DELIVERY__LINGER_S": "2",
    "RELAY_OUTBOX__MAX_EVENTS": "5",
    "RELAY_LOG_LEVEL": "debug",
}


def settings(**changes: str) -> Settings:
    """Return the settings of one app, changed as said."""
    return load_settings(environ={**BASE, **changes})


def test_reloadable_settings_are_applied() -> None:
    """Tokens, selections, limits and the log level need no restart."""
    wanted = settings(**OTHER)
    change = merge(settings(), wanted)
    assert change.settings == wanted
    assert sorted(change.taken) == sorted(OTHER)
    assert change.waiting == ()


def test_nothing_new_is_no_change() -> None:
    """A reload without changes does nothing."""
    change = merge(settings(**OTHER), settings(**OTHER))
    assert change.settings == settings(**OTHER)
    assert (change.taken, change.waiting) == ((), ())


def test_settings_of_sockets_and_clients_need_a_restart() -> None:
    """It is named, and everything else applies."""
    wanted = settings(
        **OTHER,
        RELAY_LISTEN="127.0.0.1:9999",
        RELAY_DELIVERY__SENDERS="9",
        **{f"{APP}AMPLITUDE_REGION": "eu"},
    )
    change = merge(settings(), wanted)
    assert sorted(change.taken) == sorted(OTHER)
    assert change.settings == settings(**OTHER)
    assert set(change.waiting) == {
        "RELAY_LISTEN",
        "RELAY_DELIVERY__SENDERS",
        f"{APP}AMPLITUDE_REGION",
        f"{APP}AMPLITUDE_INGEST_URL",
        f"{APP}AMPLITUDE_COHORTS_URL",
    }


def test_added_and_removed_apps_need_a_restart() -> None:
    """Their webhooks, senders and pollers are created at the start."""
    new = {name.replace("SHOP", "CLUB"): text for name, text in BASE.items() if "SHOP" in name}
    both, one = settings(**new), settings()
    assert merge(one, both).settings == one
    assert merge(both, one).settings == both
    assert merge(one, both).waiting == merge(both, one).waiting == ("RELAY_APPS__CLUB__…",)


def test_a_merge_that_is_invalid_is_rejected() -> None:
    """A batch size of one upload API must not apply to the other."""
    wanted = settings(
        **{f"{APP}AMPLITUDE_UPLOAD": "batch"}, RELAY_DELIVERY__MAX_BATCH_BYTES="5000000"
    )
    with pytest.raises(ConfigError, match=r"RELAY_DELIVERY__MAX_BATCH_BYTES.*restart"):
        merge(settings(), wanted)


def test_a_mistake_of_the_merge_names_its_variable() -> None:
    """Without the name, the operator would have to guess."""
    wide = settings(RELAY_ADMIN_LISTEN="0.0.0.0:8081", RELAY_ADMIN_TOKEN="token-of-the-test")
    with pytest.raises(ConfigError, match=r"RELAY_ADMIN_TOKEN: wanted a token.*restart"):
        merge(wide, settings())


@pytest.mark.parametrize("part", ["taken", "waiting"])
def test_only_names_are_reported(part: str) -> None:
    """The log names changed settings without their values."""
    wanted = settings(**OTHER, **{f"{APP}AMPLITUDE_API_KEY": "new-key"})
    told = " ".join(getattr(merge(settings(), wanted), part))
    assert "new-key" not in told
    assert "new-token" not in told


def test_every_fixed_setting_is_one() -> None:
    """A renamed setting must not become reloadable by mistake."""
    fixed = [each.variable for each in describe_settings() if each.takes_restart]
    assert len(fixed) == 17
    assert not any("TOKEN" in variable for variable in fixed)
