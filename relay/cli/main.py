"""The command `relay`."""

import sys


def main() -> None:
    """Run the command."""
    from relay.cli.serve import serve

    serve()
