"""Sources of variables: the environment, a file, systemd's credentials."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ConfigError
from relay.settings import Settings, load_settings

APP_ID = "11111111-2222-4333-8444-555555555555"
APP = {
    "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
    "RELAY_APPS__SHOP__WEBHOOK_TOKENS": "hook",
    "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": "key",
}
TEXT = "".join(f"{name}={text}\n" for name, text in APP.items())


def load_file(
    folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None
) -> Settings:
    """Write a file and load it."""
    path = folder / "relay.env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(environ=environ or {}, env_file=path)


def file_mistakes(folder: Path, text: str | bytes) -> list[str]:
    """Return the mistakes in a file, without its folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_file(folder, text)
    return [mistake.replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def credential_mistakes(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the mistakes of a credentials folder."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={**environ, "CREDENTIALS_DIRECTORY": str(folder)})
    return [mistake.replace(str(folder), "FOLDER") for mistake in caught.value.mistakes]


def test_file_alone_is_enough(tmp_path: Path) -> None:
    """A file can set whatever the environment can."""
    settings = load_file(tmp_path, TEXT + "RELAY_DELIVERY__LINGER_S=0.25\n")
    assert settings == load_settings(environ={**APP, "RELAY_DELIVERY__LINGER_S": "0.25"})


@pytest.mark.parametrize(
    "line",
    [
        "RELAY_ADMIN_TOKEN=a$b${HOME}#c",
        "RELAY_ADMIN_TOKEN='a$b${HOME}#c'",
        'RELAY_ADMIN_TOKEN="a$b${HOME}#c"',
        "export RELAY_ADMIN_TOKEN=a$b${HOME}#c",
        "  RELAY_ADMIN_TOKEN = a$b${HOME}#c   ",
        "# a comment\n; systemd's kind of comment\n\nRELAY_ADMIN_TOKEN=a$b${HOME}#c # the token",
        "relay_admin_token=a$b${HOME}#c",
        ";RELAY_LISTEN=nowhere\nRELAY_ADMIN_TOKEN=first\nRELAY_ADMIN_TOKEN=a$b${HOME}#c",
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_file_may_be_written_in_many_ways(tmp_path: Path, line: str, line_end: str) -> None:
    """Quotes, export, comments and CRLF are understood, and `$` is literal."""
    text = f"{TEXT}{line}\n".replace("\n", line_end)
    token = load_file(tmp_path, text, {"HOME": "/home"}).admin_token
    assert token is not None
    assert token.get_secret_value() == "a$b${HOME}#c"


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="'\\")))
def test_single_quotes_keep_any_token(tmp_path_factory: pytest.TempPathFactory, token: str) -> None:
    """Any generated password can be written into the file."""
    wanted = f"x{token}x"
    text = f"{TEXT}RELAY_ADMIN_TOKEN='{wanted}'\n"
    assert wanted in load_file(tmp_path_factory.mktemp("env"), text).secret_values()


def test_other_variables_in_the_file_are_ignored(tmp_path: Path) -> None:
    """One file may serve several programs; only RELAY_ names are relay's."""
    assert load_file(tmp_path, f"\ufeff{TEXT}OTHER=1\nSTATE_DIRECTORY=/x\nOTHER_FLAG\n").apps


def test_unknown_name_in_the_file_is_a_mistake(tmp_path: Path) -> None:
    """A typo in the file is as harmful as one in the environment."""
    assert file_mistakes(tmp_path, f"{TEXT}RELAY_APPS__SHOP__AMPLITUDE_REGOIN=s3cret\n") == [
        (
            "RELAY_APPS__SHOP__AMPLITUDE_REGOIN: unknown; did you mean "
            "RELAY_APPS__SHOP__AMPLITUDE_REGION?"
        )
    ]


def test_line_that_cannot_be_read_is_named_by_its_number(tmp_path: Path) -> None:
    """The line itself is not shown, since it may contain a secret."""
    text = f"\n\nRELAY_ADMIN_TOKEN='s3cret\nRELAY_LOG_LEVEL\n{TEXT}"
    assert file_mistakes(tmp_path, text) == [
        "--env-file relay.env, line 3: wanted NAME=value",
        "--env-file relay.env, line 4: wanted NAME=value",
    ]


def test_missing_file_is_the_only_mistake_reported(tmp_path: Path) -> None:
    """What the file would set is not reported as missing."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}, env_file=tmp_path / "absent.env")
    assert caught.value.mistakes == (
        f"--env-file {tmp_path}/absent.env: cannot be read: No such file or directory",
    )


def test_file_that_is_a_folder_or_not_text_is_a_mistake(tmp_path: Path) -> None:
    """The reason is shown, the content is not."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(environ=APP, env_file=tmp_path)
    assert file_mistakes(tmp_path, b"\xff\xfe") == [
        "--env-file relay.env: cannot be read: it is not UTF-8 text"
    ]


def test_environment_wins_over_file_and_file_over_credentials(tmp_path: Path) -> None:
    """The source closest to the operator wins."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("admin_token", "apps__shop__amplitude_api_key", "apps__shop__webhook_tokens"):
        (credentials / f"relay_{name}").write_text("from-credential\n")
    file = f"{TEXT}RELAY_ADMIN_TOKEN=from-file\n".replace("=key", "=from-file")
    file = file.replace("RELAY_APPS__SHOP__WEBHOOK_TOKENS=hook\n", "")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "RELAY_ADMIN_TOKEN": "from-environment",
    }
    settings = load_file(tmp_path, file, environ)
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "from-environment"
    app = settings.apps["shop"]
    assert app.amplitude_api_key.get_secret_value() == "from-file"
    assert [token.get_secret_value() for token in app.webhook_tokens] == ["from-credential"]


def test_empty_value_hides_that_of_a_weaker_source(tmp_path: Path) -> None:
    """An empty variable in the environment undoes what the file sets."""
    text = f"{TEXT}RELAY_LOG_LEVEL=debug\n"
    assert load_file(tmp_path, text, {"RELAY_LOG_LEVEL": ""}).log_level == "info"
    with pytest.raises(ConfigError, match="WEBHOOK_TOKENS: is empty; wanted"):
        load_file(tmp_path, text, {"RELAY_APPS__SHOP__WEBHOOK_TOKENS": ""})


def test_every_secret_can_be_a_credential(tmp_path: Path) -> None:
    """Its name is the variable's in lower case; a final newline is dropped."""
    secrets = {
        "relay_admin_token": "one",
        "relay_apps__shop__webhook_tokens": "two,three",
        "relay_apps__shop__amplitude_api_key": "four",
        "relay_apps__shop__amplitude_secret_key": "five",
        "relay_apps__shop__onesignal_api_key": "six",
    }
    for name, text in secrets.items():
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "relay").write_text("unused")
    (tmp_path / "other_service").write_bytes(b"\xff")
    settings = load_settings(
        environ={
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
        }
    )
    assert settings.secret_values() == {"one", "two", "three", "four", "five", "six"}


def test_unknown_or_misplaced_credential_is_a_mistake(tmp_path: Path) -> None:
    """A misspelt secret would otherwise only be reported as missing; its value is not shown."""
    (tmp_path / "relay_apps__shop__webhook_token").write_text("s3cret")
    (tmp_path / "relay_listen").write_text("[::1]:1")
    assert credential_mistakes(tmp_path, APP) == [
        (
            "credential relay_apps__shop__webhook_token: unknown; did you mean "
            "relay_apps__shop__webhook_tokens?"
        ),
        (
            "credential relay_listen: only secrets are taken from credentials; wanted "
            "RELAY_LISTEN in the environment or the file"
        ),
    ]


def test_unreadable_credentials_are_the_only_mistake_reported(tmp_path: Path) -> None:
    """A missing folder, a name that is no file, bytes that are no text."""
    assert credential_mistakes(tmp_path / "absent", {}) == [
        "CREDENTIALS_DIRECTORY FOLDER: cannot be read: No such file or directory"
    ]
    broken = tmp_path / "relay_admin_token"
    broken.write_bytes(b"\xff")
    assert credential_mistakes(tmp_path, {}) == [
        "CREDENTIALS_DIRECTORY FOLDER: cannot be read: a secret is not UTF-8 text"
    ]
    broken.unlink()
    broken.mkdir()
    assert credential_mistakes(tmp_path, {}) == [
        "CREDENTIALS_DIRECTORY FOLDER: cannot be read: Is a directory"
    ]
