"""What a running daemon takes of new settings."""

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


def test_what_can_be_taken_is_taken_whole() -> None:
    """Tokens, selections, limits and the log level take no restart."""
    wanted = settings(**OTHER)
    change = merge(settings(), wanted)
    assert change.settings == wanted
    assert sorted(change.taken) == sorted(OTHER)
    assert change.waiting == ()


def test_nothing_new_is_no_change() -> None:
    """Asking again without a reason does no harm."""
    change = merge(settings(**OTHER), settings(**OTHER))
    assert change.settings == settings(**OTHER)
    assert (change.taken, change.waiting) == ((), ())


def test_what_sockets_and_clients_are_made_of_waits() -> None:
    """It is named, and the rest is taken all the same."""
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


def test_apps_that_come_or_go_wait() -> None:
    """Their hooks, senders and pollers are made at the start."""
    new = {name.replace("SHOP", "CLUB"): text for name, text in BASE.items() if "SHOP" in name}
    both, one = settings(**new), settings()
    assert merge(one, both).settings == one
    assert merge(both, one).settings == both
    assert merge(one, both).waiting == merge(both, one).waiting == ("RELAY_APPS__CLUB__…",)


def test_halves_that_do_not_fit_are_refused() -> None:
    """A batch of the other upload API must not go to this one."""
    wanted = settings(
        **{f"{APP}AMPLITUDE_UPLOAD": "batch"}, RELAY_DELIVERY__MAX_BATCH_BYTES="5000000"
    )
    with pytest.raises(ConfigError, match=r"RELAY_DELIVERY__MAX_BATCH_BYTES.*restart"):
        merge(settings(), wanted)


def test_a_mistake_of_the_merger_names_its_variable() -> None:
    """A sentence without one leaves the reader to guess."""
    wide = settings(RELAY_ADMIN_LISTEN="0.0.0.0:8081", RELAY_ADMIN_TOKEN="token-of-the-test")
    with pytest.raises(ConfigError, match=r"RELAY_ADMIN_TOKEN: wanted a token.*restart"):
        merge(wide, settings())


@pytest.mark.parametrize("part", ["taken", "waiting"])
def test_names_alone_are_told(part: str) -> None:
    """What is logged of a change holds no value."""
    wanted = settings(**OTHER, **{f"{APP}AMPLITUDE_API_KEY": "new-key"})
    told = " ".join(getattr(merge(settings(), wanted), part))
    assert "new-key" not in told
    assert "new-token" not in told


def test_every_fixed_setting_is_one() -> None:
    """A renamed setting must not be taken for one that can be reloaded."""
    fixed = [each.variable for each in describe_settings() if each.takes_restart]
    assert len(fixed) == 17
    assert not any("TOKEN" in variable for variable in fixed)
