"""The configuration is read whole, or rejected with every mistake."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from relay.errors import ConfigError
from relay.events.catalog import parse_selection
from relay.settings import Address, AppSettings, CohortSelection, Settings, load_settings

APP_ID = "11111111-2222-4333-8444-555555555555"
APP = {
    "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
    "RELAY_APPS__SHOP__WEBHOOK_TOKENS": "hook-one,hook-two",
    "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": "amplitude-key",
}
HOME = {"HOME": "/home/someone"}


def load(changes: Mapping[str, str | None] | None = None) -> Settings:
    """Load one good app with some variables set, or unset with `None`."""
    changed = {**HOME, **APP, **(changes or {})}
    return load_settings(environ={name: text for name, text in changed.items() if text is not None})


def mistakes(changes: Mapping[str, str | None]) -> list[str]:
    """Return the mistakes found in one good app with some variables changed."""
    with pytest.raises(ConfigError) as caught:
        load(changes)
    return list(caught.value.mistakes)


def shop(changes: Mapping[str, str | None] | None = None) -> AppSettings:
    """Return the settings of the one app."""
    return load(changes).apps["shop"]


def test_unset_variables_have_the_documented_default() -> None:
    """Three variables are enough; all others have their documented default."""
    expected = {
        "data_dir": Path("/home/someone/.local/state/relay"),
        "listen": {"host": "127.0.0.1", "port": 8080},
        "admin_listen": {"host": "127.0.0.1", "port": 8081},
        "admin_token": None,
        "tls_cert_file": None,
        "tls_key_file": None,
        "admin_tls_cert_file": None,
        "admin_tls_key_file": None,
        "log_level": "info",
        "log_format": "auto",
        "outbox": {"max_events": 10_000_000, "min_free_bytes": 268_435_456},
        "delivery": {
            "senders": 4,
            "max_batch_events": 1_000,
            "max_batch_bytes": 900_000,
            "linger_s": 0.5,
            "request_timeout_s": 30.0,
            "gzip": True,
            "backoff_base_s": 1.0,
            "backoff_cap_s": 300.0,
            "throttle_hold_s": 30.0,
            "halt_probe_s": 300.0,
            "max_age_s": 561_600.0,
        },
        "cohorts": {
            "poll_interval_s": 900.0,
            "export_poll_s": 5.0,
            "export_timeout_s": 1_800.0,
            "monthly_downloads": 450,
            "guard_removed_ratio": 0.2,
            "guard_min_members": 100,
        },
        "directory": {"sync_interval_s": 21_600.0},
        "apps": {
            "shop": {
                "onesignal_app_id": APP_ID,
                "webhook_tokens": (SecretStr("hook-one"), SecretStr("hook-two")),
                "amplitude_api_key": SecretStr("amplitude-key"),
                "amplitude_secret_key": None,
                "amplitude_region": "us",
                "amplitude_upload": "httpapi",
                "events": parse_selection("all"),
                "event_names": "seed",
                "anonymous": "device",
                "cohorts": {"ids": None},
                "membership": "known",
                "segment_limit": None,
                "onesignal_api_key": None,
                "amplitude_ingest_url": "https://api2.amplitude.com",
                "amplitude_cohorts_url": "https://amplitude.com",
                "onesignal_api_url": "https://api.onesignal.com",
            }
        },
    }
    assert load().model_dump() == expected


def test_every_mistake_is_reported_at_once() -> None:
    """One start shows all mistakes."""
    expected = [
        "RELAY_LISTENN: unknown; did you mean RELAY_LISTEN?",
        "RELAY_LISTEN: got 'nowhere'; wanted host:port, such as 127.0.0.1:8080 or [::1]:8080",
        (
            "RELAY_ADMIN_TOKEN: not set; wanted a token, as RELAY_ADMIN_LISTEN (0.0.0.0:0) "
            "is not on loopback"
        ),
        "RELAY_LOG_LEVEL: got 'loud'; wanted debug, info, warning or error",
        "RELAY_DELIVERY__SENDERS: got '65'; wanted a whole number, at least 1 and at most 64",
        "RELAY_DELIVERY__GZIP: got 'maybe'; wanted true or false",
        "RELAY_DELIVERY__BACKOFF_CAP_S: got '0.5'; wanted at least RELAY_DELIVERY__BACKOFF_BASE_S",
        (
            "RELAY_APPS__SHOP__ONESIGNAL_APP_ID: got 'shop'; wanted a UUID, such as "
            "11111111-2222-4333-8444-555555555555"
        ),
        "RELAY_APPS__SHOP__AMPLITUDE_API_KEY: not set; wanted one line of text",
        "RELAY_APPS__SHOP__AMPLITUDE_REGION: got 'mars'; wanted us or eu",
    ]
    assert (
        mistakes(
            {
                "RELAY_LISTENN": "x",
                "RELAY_LISTEN": "nowhere",
                "RELAY_ADMIN_LISTEN": "0.0.0.0:0",
                "RELAY_LOG_LEVEL": "loud",
                "RELAY_DELIVERY__SENDERS": "65",
                "RELAY_DELIVERY__GZIP": "maybe",
                "RELAY_DELIVERY__BACKOFF_CAP_S": "0.5",
                "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": "shop",
                "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": None,
                "RELAY_APPS__SHOP__AMPLITUDE_REGION": "mars",
            }
        )
        == expected
    )


def test_configuration_without_app_says_which_variables_an_app_needs() -> None:
    """An empty environment is the first thing a new user tries."""
    assert mistakes(dict.fromkeys(APP)) == [
        (
            "RELAY_APPS__<APP>__…: no app is configured; wanted, with the app's name for <APP>, "
            "RELAY_APPS__<APP>__ONESIGNAL_APP_ID, RELAY_APPS__<APP>__WEBHOOK_TOKENS and "
            "RELAY_APPS__<APP>__AMPLITUDE_API_KEY"
        )
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RELAY_OUTBOX__MAX_EVENTS", "0"),
        ("RELAY_OUTBOX__MAX_EVENTS", "many"),
        ("RELAY_OUTBOX__MIN_FREE_BYTES", "-1"),
        ("RELAY_DELIVERY__SENDERS", "0"),
        ("RELAY_DELIVERY__SENDERS", "1.5"),
        ("RELAY_DELIVERY__MAX_BATCH_EVENTS", "2001"),
        ("RELAY_DELIVERY__MAX_BATCH_BYTES", "100"),
        ("RELAY_DELIVERY__MAX_BATCH_BYTES", "1000001"),
        ("RELAY_DELIVERY__LINGER_S", "-0.1"),
        ("RELAY_DELIVERY__LINGER_S", "nan"),
        ("RELAY_DELIVERY__REQUEST_TIMEOUT_S", "0"),
        ("RELAY_DELIVERY__BACKOFF_BASE_S", "inf"),
        ("RELAY_DELIVERY__BACKOFF_BASE_S", "0"),
        ("RELAY_DELIVERY__THROTTLE_HOLD_S", "-1"),
        ("RELAY_DELIVERY__HALT_PROBE_S", "0"),
        ("RELAY_DELIVERY__MAX_AGE_S", "604800"),
        ("RELAY_COHORTS__POLL_INTERVAL_S", "0"),
        ("RELAY_COHORTS__EXPORT_POLL_S", "0"),
        ("RELAY_COHORTS__EXPORT_TIMEOUT_S", "0"),
        ("RELAY_COHORTS__MONTHLY_DOWNLOADS", "-1"),
        ("RELAY_COHORTS__GUARD_REMOVED_RATIO", "1.1"),
        ("RELAY_COHORTS__GUARD_MIN_MEMBERS", "-1"),
        ("RELAY_DIRECTORY__SYNC_INTERVAL_S", "-1"),
        ("RELAY_LOG_FORMAT", "xml"),
        ("RELAY_APPS__SHOP__AMPLITUDE_UPLOAD", "identify"),
        ("RELAY_APPS__SHOP__EVENTS", "message.psh.*"),
        ("RELAY_APPS__SHOP__EVENT_NAMES", "2024"),
        ("RELAY_APPS__SHOP__ANONYMOUS", "keep"),
        ("RELAY_APPS__SHOP__COHORTS", "all,7khm89cz"),
        ("RELAY_APPS__SHOP__COHORTS", "a,,b"),
        ("RELAY_APPS__SHOP__MEMBERSHIP", "some"),
        ("RELAY_APPS__SHOP__SEGMENT_LIMIT", "-1"),
    ],
)
def test_value_out_of_bounds_is_one_mistake_that_shows_it(variable: str, text: str) -> None:
    """One line has both the variable and its value."""
    (mistake,) = mistakes({variable: text})
    assert mistake.startswith(f"{variable}: got '{text}'; wanted ")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RELAY_DELIVERY__LINGER_S", "0"),
        ("RELAY_DELIVERY__LINGER_S", "0.05"),
        ("RELAY_DELIVERY__MAX_AGE_S", "604799.9"),
        ("RELAY_DIRECTORY__SYNC_INTERVAL_S", "0"),
        ("RELAY_COHORTS__MONTHLY_DOWNLOADS", "0"),
        ("RELAY_DELIVERY__SENDERS", "64"),
        ("RELAY_DELIVERY__MAX_BATCH_EVENTS", "2000"),
        ("RELAY_DELIVERY__MAX_BATCH_BYTES", "1000000"),
    ],
)
def test_bounds_themselves_are_allowed(variable: str, text: str) -> None:
    """What the contract allows is not rejected by our bounds."""
    section, field = variable.removeprefix("RELAY_").lower().split("__")
    assert getattr(getattr(load({variable: text}), section), field) == float(text)


def test_larger_uploads_are_allowed_where_every_app_uses_the_batch_api() -> None:
    """The bound on bytes is that of the API in use."""
    changes = {
        "RELAY_APPS__SHOP__AMPLITUDE_UPLOAD": "batch",
        "RELAY_DELIVERY__MAX_BATCH_BYTES": "20000000",
    }
    assert load(changes).delivery.max_batch_bytes == 20_000_000
    assert mistakes({**changes, "RELAY_APPS__SHOP__AMPLITUDE_UPLOAD": "httpapi"}) == [
        (
            "RELAY_DELIVERY__MAX_BATCH_BYTES: got '20000000'; wanted at most 1000000, as "
            "RELAY_APPS__SHOP__AMPLITUDE_UPLOAD is httpapi"
        )
    ]


@pytest.mark.parametrize("token", [None, "", "  "])
def test_admin_door_open_to_others_needs_a_token(token: str | None) -> None:
    """An empty token guards nothing."""
    door = {"RELAY_ADMIN_LISTEN": "0.0.0.0:8081", "RELAY_ADMIN_TOKEN": token}
    assert mistakes(door) == [
        (
            "RELAY_ADMIN_TOKEN: not set; wanted a token, as RELAY_ADMIN_LISTEN (0.0.0.0:8081) "
            "is not on loopback"
        )
    ]
    assert load({**door, "RELAY_ADMIN_TOKEN": "let-me-in"}).admin_token == SecretStr("let-me-in")


def test_both_doors_on_one_port_are_a_mistake() -> None:
    """It would fail later and less clearly; two ports chosen by the kernel do differ."""
    (mistake,) = mistakes({"RELAY_ADMIN_LISTEN": "127.0.0.1:8080"})
    assert mistake == (
        "RELAY_ADMIN_LISTEN: got '127.0.0.1:8080'; wanted another address than RELAY_LISTEN has"
    )
    free = {"RELAY_LISTEN": "127.0.0.1:0", "RELAY_ADMIN_LISTEN": "127.0.0.1:0"}
    assert load(free).admin_listen == Address("127.0.0.1", 0)


@pytest.mark.parametrize("variable", APP)
def test_empty_required_value_is_a_mistake(variable: str) -> None:
    """An empty variable was forgotten, not chosen."""
    (mistake,) = mistakes({variable: ""})
    assert mistake.startswith(f"{variable}: is empty; wanted ")


def test_empty_optional_value_means_the_default() -> None:
    """So the environment can undo a value of the file."""
    empty = {
        "RELAY_DATA_DIR": "",
        "RELAY_LISTEN": "",
        "RELAY_DELIVERY__SENDERS": " ",
        "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY": "",
        "RELAY_APPS__SHOP__SEGMENT_LIMIT": "",
    }
    assert load(empty) == load()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("RELAY_LISTENN", "RELAY_LISTEN"),
        ("RELAY_DATADIR", "RELAY_DATA_DIR"),
        ("RELAY_DELIVERY_SENDERS", "RELAY_DELIVERY__SENDERS"),
        ("RELAY_DELIVERY__SENDER", "RELAY_DELIVERY__SENDERS"),
        ("RELAY_OUTBOX", "RELAY_OUTBOX__MAX_EVENTS"),
        ("RELAY_APPS__SHOP__AMPLITUDE_REGOIN", "RELAY_APPS__SHOP__AMPLITUDE_REGION"),
        ("RELAY_APPS__OTHER__WEBHOOK_TOKEN", "RELAY_APPS__OTHER__WEBHOOK_TOKENS"),
        ("RELAY_SHOP__ONESIGNAL_API_KEY", "RELAY_APPS__<APP>__ONESIGNAL_API_KEY"),
        ("relay_log_leve", "relay_log_level"),
    ],
)
def test_unknown_variable_stops_the_start_and_suggests_the_nearest(wrong: str, right: str) -> None:
    """A misspelt name must not silently keep a default, nor show its value."""
    assert mistakes({wrong: "s3cret"}) == [f"{wrong}: unknown; did you mean {right}?"]


@given(st.text(max_size=40), st.text(min_size=8))
def test_the_value_of_an_unknown_variable_is_never_shown(end: str, value: str) -> None:
    """One line each, without the value, however odd the name."""
    lines = mistakes({f"RELAY_X{end}": f"value:{value}"})
    assert all(line.isprintable() for line in lines)
    assert f"value:{value}" not in "".join(lines)


@pytest.mark.parametrize("name", ["_SHOP", "SHOP-2", "", "SH.OP", "<APP>", "LÄDEN"])
def test_app_name_is_letters_digits_and_single_underscores(name: str) -> None:
    """Anything else could be confused with the level separator, or break a path."""
    (mistake,) = mistakes({f"RELAY_APPS__{name}__AMPLITUDE_API_KEY": "s3cret"})
    assert "app name of letters, digits and single _" in mistake
    assert "s3cret" not in mistake


@pytest.mark.parametrize("end", ["SHOP___AMPLITUDE_API_KEY", "A__B__AMPLITUDE_API_KEY", "SHOP"])
def test_app_variable_with_a_level_too_many_or_too_few_is_unknown(end: str) -> None:
    """Two underscores always separate levels."""
    (mistake,) = mistakes({f"RELAY_APPS__{end}": "s3cret"})
    assert mistake.startswith(f"RELAY_APPS__{end}: unknown; did you mean RELAY_APPS__")


def test_app_name_is_lower_case_and_may_hold_single_underscores() -> None:
    """In paths and output the name has one spelling."""
    changes = {
        "RELAY_APPS__My_Shop2__ONESIGNAL_APP_ID": APP_ID.upper(),
        "RELAY_APPS__MY_SHOP2__WEBHOOK_TOKENS": "hook-one",
        "relay_apps__my_shop2__amplitude_api_key": "other-key",
    }
    settings = load(changes)
    assert list(settings.apps) == ["shop", "my_shop2"]
    assert settings.apps["my_shop2"].onesignal_app_id == APP_ID


def test_two_spellings_of_one_variable_must_agree() -> None:
    """Which of two values holds must not depend on the order of the environment."""
    assert load({"relay_listen": "[::1]:1", "RELAY_LISTEN": "[::1]:1"}).listen.port == 1
    assert mistakes({"RELAY_LISTEN": "[::1]:1", "relay_listen": "[::1]:2"}) == [
        "relay_listen: also given as RELAY_LISTEN, with another value; wanted one"
    ]


def test_words_are_understood_in_any_case_and_with_space_around() -> None:
    """`EU` and `eu ` mean the same region."""
    app = shop({"RELAY_APPS__SHOP__AMPLITUDE_REGION": " EU ", "RELAY_LOG_LEVEL": "DEBUG"})
    assert app.amplitude_region == "eu"


def test_region_decides_the_hosts_and_an_override_wins() -> None:
    """The EU project's keys work only at the EU hosts."""
    app = shop(
        {
            "RELAY_APPS__SHOP__AMPLITUDE_REGION": "eu",
            "RELAY_APPS__SHOP__ONESIGNAL_API_URL": "HTTP://LocalHost:9000/",
        }
    )
    assert (app.amplitude_ingest_url, app.amplitude_cohorts_url, app.onesignal_api_url) == (
        "https://api.eu.amplitude.com",
        "https://analytics.eu.amplitude.com",
        "http://localhost:9000",
    )


def test_selections_are_read() -> None:
    """Events and cohorts are chosen by name, cohort ids keep their case."""
    app = shop(
        {
            "RELAY_APPS__SHOP__EVENTS": "message.push.clicked, message.email.opened",
            "RELAY_APPS__SHOP__COHORTS": "7khm89cz, AbC",
            "RELAY_APPS__SHOP__EVENT_NAMES": "2022",
        }
    )
    assert app.events == {"message.push.clicked", "message.email.opened"}
    assert app.cohorts == CohortSelection(frozenset({"7khm89cz", "AbC"}))
    assert app.event_names == "2022"


def test_two_apps_may_share_ids_keys_and_tokens() -> None:
    """One OneSignal app may feed two projects, and two apps one project."""
    other = {name.replace("SHOP", "COPY"): text for name, text in APP.items()}
    settings = load(other)
    assert settings.apps["copy"] == settings.apps["shop"]


def test_dollar_signs_and_hashes_survive_in_secrets() -> None:
    """A secret is taken literally."""
    tokens = shop({"RELAY_APPS__SHOP__WEBHOOK_TOKENS": " a$b${HOME}#c , d "}).webhook_tokens
    assert [token.get_secret_value() for token in tokens] == ["a$b${HOME}#c", "d"]


@pytest.mark.parametrize("text", ["hook-one,,hook-two", "hook-one,", "hook-one\nx", "<fill-in>"])
def test_unusable_token_is_rejected_and_not_shown(text: str) -> None:
    """Empty, in two lines, or a placeholder."""
    (mistake,) = mistakes({"RELAY_APPS__SHOP__WEBHOOK_TOKENS": text})
    assert mistake == (
        "RELAY_APPS__SHOP__WEBHOOK_TOKENS: got a value that is not shown; wanted one or more "
        "secrets, comma-separated, none empty or a <placeholder>"
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RELAY_APPS__SHOP__ONESIGNAL_APP_ID", "amplitude-key"),
        ("RELAY_APPS__SHOP__EVENTS", "hook-two"),
        ("RELAY_LISTEN", "hook-one"),
        ("RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL", "http://me:password@proxy"),
    ],
)
def test_secret_in_the_wrong_place_is_not_shown(variable: str, text: str) -> None:
    """Operators paste keys into the wrong line."""
    (mistake,) = mistakes({variable: text})
    assert mistake.startswith(f"{variable}: got a value that is not shown; wanted ")
    assert text not in mistake


def test_no_exception_behind_the_mistakes_has_a_value() -> None:
    """A traceback of the error must not show what the sentences omit."""
    with pytest.raises(ConfigError) as caught:
        load({"RELAY_APPS__SHOP__AMPLITUDE_REGION": "mars"})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_secrets_are_hidden_in_the_settings_text() -> None:
    """Settings may be printed in a log or a traceback."""
    settings = load({"RELAY_ADMIN_TOKEN": "let-me-in"})
    assert settings.secret_values() == {"hook-one", "hook-two", "amplitude-key", "let-me-in"}
    shown = repr(settings) + str(settings) + settings.model_dump_json()
    assert not [secret for secret in settings.secret_values() if secret in shown]


def test_settings_cannot_be_changed() -> None:
    """Settings are shared, so no holder may change them."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.log_level = "debug"  # type: ignore[misc]  # the mutation under test
    with pytest.raises(ValidationError):
        settings.delivery.senders = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/relay"}, "/var/lib/relay"),
        ({"STATE_DIRECTORY": "/var/lib/relay:/var/lib/other"}, "/var/lib/relay"),
        ({"STATE_DIRECTORY": ""}, "/home/someone/.local/state/relay"),
        ({"STATE_DIRECTORY": "/var/lib/relay", "RELAY_DATA_DIR": "/data"}, "/data"),
        ({"RELAY_DATA_DIR": "~/relay"}, "/home/someone/relay"),
    ],
)
def test_data_directory_is_systemds_else_the_users(environ: dict[str, str], folder: str) -> None:
    """Of systemd's folders the first is used."""
    assert load(environ).data_dir == Path(folder)


def test_home_is_looked_up_where_the_environment_does_not_say() -> None:
    """A service may be started without HOME."""
    assert load({"HOME": None}).data_dir == Path.home() / ".local/state/relay"


def test_without_an_environ_the_processs_own_is_read() -> None:
    """Commands need not pass it."""
    own = {name for name in os.environ if name.startswith("RELAY_")}  # noqa: TID251  compared with
    assert not own, "run the tests without RELAY_ variables"
    with pytest.raises(ConfigError, match="no app is configured"):
        load_settings()
