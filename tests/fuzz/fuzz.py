"""Fuzz a parser: `python -m tests.fuzz.fuzz TARGET [--seconds N]`.

Needs the package `atheris`. Findings are written to a temporary folder, printed
at the start; input that breaks a promise belongs in `corpus/TARGET/` once understood.
"""

import argparse
import importlib
import re
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

INSTRUMENTED = ["relay", "dotenv", "email", "json"]

WORD = re.compile(rb'"([A-Za-z_][\w .]{1,40})"|\b([A-Z_]{4,})\b|([a-z_]{3,})')


def main(arguments: list[str]) -> None:
    """Fuzz the given target; never returns."""
    # No types are published, and no wheels for some platforms: so it is no dependency of relay.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets: Any = importlib.import_module("tests.fuzz.targets")
    from tests.fuzz.mutation import mutate  # noqa: PLC0415  # must not load targets before

    asked = _parse(arguments, targets.TARGETS)
    corpus = targets.CORPUS / asked.target
    found = asked.folder / asked.target
    found.mkdir(parents=True, exist_ok=True)
    words = sorted(_words_in(corpus))
    dictionary = found.parent / f"{asked.target}.dict"
    dictionary.write_text("".join(f'"{word}"\n' for word in [*words, "relay"]))
    sys.stdout.write(f"fuzzing {asked.target} for {asked.seconds} s; what is found: {found}\n")
    sys.stdout.flush()  # before the fuzzer starts writing

    def check(data: bytes) -> None:
        targets.run(asked.target, data)

    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        rng = Random(seed)
        changed = mutate(data, words, max_bytes, rng) if rng.random() < 0.8 else None
        return atheris.Mutate(data, max_bytes) if changed is None else changed

    options = [
        f"-max_total_time={asked.seconds}",
        f"-seed={asked.seed}",
        f"-max_len={targets.TARGETS[asked.target].max_bytes}",
        f"-dict={dictionary}",
        f"-artifact_prefix={found.parent}/{asked.target}-",
        "-timeout=30",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    if not asked.verbose:
        options.append("-verbosity=0")
    is_json = targets.TARGETS[asked.target].is_json
    keyword = {"custom_mutator": change} if is_json else {}
    atheris.Setup([sys.argv[0], *options, str(found), str(corpus)], check, **keyword)
    atheris.Fuzz()


def _parse(arguments: list[str], targets: dict[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(targets))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="0 takes another one each time")
    parser.add_argument("--verbose", action="store_true", help="tell of every new path found")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "relay-fuzz", metavar="FOLDER"
    )
    return parser.parse_args(arguments)


def _words_in(corpus: Path) -> set[str]:
    """Return the words in a corpus: its seeds contain what means something to the parser."""
    found = {
        group.decode("latin-1")
        for path in corpus.iterdir()
        if path.stat().st_size < 5_000
        for groups in WORD.findall(path.read_bytes())
        for group in groups
    }
    return {word for word in found if word}


if __name__ == "__main__":
    main(sys.argv[1:])
