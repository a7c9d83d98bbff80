"""Files shipped beside the code: the example configuration and the systemd unit."""

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.settings import describe_settings, load_settings

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.env"
UNIT = ROOT / "systemd" / "relay.service"
ASSIGNMENT = re.compile(r"^(?P<off>#?)(?P<name>RELAY_\w+)=(?P<text>.*)$", re.MULTILINE)
HIGHEST_EXPOSURE = 1.5

FILLED = {
    "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": "11111111-2222-4333-8444-555555555555",
    "RELAY_APPS__SHOP__WEBHOOK_TOKENS": "hook",
    "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": "key",
}
# Where the example shows a value that holds only here.
SHOWN_INSTEAD = {
    "RELAY_DATA_DIR": "/var/lib/relay",
    "RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL": "https://api2.amplitude.com",
    "RELAY_APPS__<APP>__AMPLITUDE_COHORTS_URL": "https://amplitude.com",
    "RELAY_APPS__<APP>__ONESIGNAL_API_URL": "https://api.onesignal.com",
}


def example(*, everything_on: bool) -> str:
    """Return the example with its placeholders filled and its defaults enabled."""

    def fill(line: re.Match[str]) -> str:
        off = "" if everything_on else line["off"]
        return f"{off}{line['name']}={FILLED.get(line['name'], line['text'])}"

    return ASSIGNMENT.sub(fill, EXAMPLE.read_text())


def unit_keys() -> dict[str, list[str]]:
    """Return the unit's values by `Section.Key`; a key may occur several times."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, text = line.partition("=")
            keys[f"{section}.{key}"].append(text)
    return keys


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which Debian installs with systemd."""
    return subprocess.run(
        ["systemd-analyze", *words, str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_example_shows_every_setting_once_with_its_default() -> None:
    """The example cannot diverge from relay's behaviour."""
    shown = {
        line["name"].replace("__SHOP__", "__<APP>__"): (line["off"], line["text"])
        for line in ASSIGNMENT.finditer(EXAMPLE.read_text())
    }
    for variable, (off, text) in shown.items():
        if not off:
            assert text.startswith("<"), f"{variable} needs a placeholder"
    expected = {
        setting.variable: SHOWN_INSTEAD.get(setting.variable)
        or {"none": "", "required": "<placeholder>"}.get(setting.default, setting.default)
        for setting in describe_settings()
    }
    assert {
        name: text if off else "<placeholder>" for name, (off, text) in shown.items()
    } == expected
    assert len(ASSIGNMENT.findall(EXAMPLE.read_text())) == len(expected)


def test_example_explains_every_setting() -> None:
    """A sentence precedes each setting or its group."""
    blocks = [block for block in EXAMPLE.read_text().split("\n\n") if ASSIGNMENT.search(block)]
    assert all(block.startswith("# ") for block in blocks)


def test_every_setting_has_a_sentence() -> None:
    """The README's table is generated from them."""
    settings = describe_settings()
    assert all(setting.meaning.endswith(".") and setting.wanted for setting in settings)


def test_filled_example_is_a_valid_configuration(tmp_path: Path) -> None:
    """With placeholders filled it loads, and its defaults are the real ones."""
    path = tmp_path / "relay.env"
    path.write_text(example(everything_on=False))
    as_shipped = load_settings(environ={"STATE_DIRECTORY": "/var/lib/relay"}, env_file=path)
    path.write_text(example(everything_on=True))
    assert load_settings(environ={}, env_file=path) == as_shipped


def test_unfilled_example_is_rejected_with_what_to_fill_in() -> None:
    """A placeholder must not become a password."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}, env_file=EXAMPLE)
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == list(FILLED)


def test_unit_has_the_keys_operators_rely_on() -> None:
    """Operators' own setups depend on these keys."""
    keys = unit_keys()
    expected = {
        "Service.Type": ["notify"],
        "Service.ExecStart": ["/opt/relay/bin/relay serve"],
        "Service.EnvironmentFile": ["/etc/relay/relay.env"],
        "Service.LoadCredential": ["relay:/etc/relay/credentials"],
        "Service.DynamicUser": ["yes"],
        "Service.StateDirectory": ["relay"],
        "Service.StateDirectoryMode": ["0700"],
        "Service.WatchdogSec": ["30"],
        "Service.Restart": ["on-failure"],
        "Service.RestartPreventExitStatus": ["78"],
        "Service.TimeoutStopSec": ["10"],
        "Service.MemoryDenyWriteExecute": ["yes"],
        "Install.WantedBy": ["multi-user.target"],
    }
    assert {name: keys[name] for name in expected} == expected


def test_secrets_named_in_the_unit_are_relays(tmp_path: Path) -> None:
    """Systemd writes the credential's id, `_` and the file's name: relay must know them all."""
    documented = re.findall(r"^#   ((?:admin|apps)_\w+)$", UNIT.read_text(), re.MULTILINE)
    secrets = {
        setting.variable.replace("<APP>", "SHOP")
        for setting in describe_settings()
        if setting.is_secret
    }
    assert {f"relay_{name}".upper() for name in documented} == secrets
    for name in documented:
        (tmp_path / f"relay_{name}").write_text(f"{name}\n")
    app_id = {name: text for name, text in FILLED.items() if name.endswith("APP_ID")}
    settings = load_settings(environ={"CREDENTIALS_DIRECTORY": str(tmp_path), **app_id})
    assert settings.secret_values() == set(documented)


@pytest.mark.slow  # needs systemd, which a bare machine may lack
def test_systemd_accepts_the_unit() -> None:
    """Except for the program, which is not installed where tests run."""
    complaints = [
        line
        for line in analyze("verify").stderr.splitlines()
        if not re.search(r"relay\.service: Command /opt/relay/bin/relay is not executable", line)
    ]
    assert complaints == []


@pytest.mark.slow
def test_exposure_is_at_most_the_promised() -> None:
    """By systemd's own score of the sandbox."""
    report = analyze("security", "--offline=true", "--no-pager").stdout
    exposure = re.search(r"Overall exposure level for relay\.service: (\d+\.\d+)", report)
    assert exposure is not None, report
    assert float(exposure[1]) <= HIGHEST_EXPOSURE
