"""Promises for any settings file."""

import tempfile
from pathlib import Path
from typing import Final

from relay.errors import ConfigError
from relay.settings import load_settings
from relay.settings.describe import PREFIX, is_secret
from relay.settings.sources import read_env_file

ENVIRON: Final = {"HOME": "/nowhere"}
SECRET_CHARACTERS: Final = 16


def check_settings(data: bytes) -> None:
    """A file yields settings or mistakes: one printable line each, without a secret."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "relay.env"
        path.write_bytes(data)
        layer = read_env_file(path)
        assert all(name.startswith(PREFIX) and name == name.upper() for name in layer.values)
        try:
            load_settings(environ=ENVIRON, env_file=path)
        except ConfigError as error:
            mistakes = [mistake.replace(folder, "") for mistake in error.mistakes]
        else:
            assert not layer.mistakes
            return
    assert mistakes
    assert all(mistake.isprintable() for mistake in mistakes)
    for name, text in layer.values.items():
        if is_secret(name) and len(text) >= SECRET_CHARACTERS and "," not in text:
            assert not any(text in mistake for mistake in mistakes if text not in name)
