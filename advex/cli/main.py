"""The entry point: words are parsed, one of four commands runs, and its report is printed."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from advex._version import VERSION
from advex.cli import attack, demo, evaluate, quiet, report
from advex.cli.screen import plain_values, printable
from advex.errors import AdvexError

COMMANDS = {"demo": demo, "attack": attack, "evaluate": evaluate, "report": report}

WRONG_USAGE, INTERRUPTED = 2, 130  # exit codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; default those of the process.

    Returns:
        The exit code: 0 if every image was fooled (``demo``: if every file written is what it
        claims to be), 1 if not, 2 for wrong usage, 130 after Ctrl-C.

    Example:
        >>> main(["--version"])
        advex ...
        0
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    try:
        return _run(options)
    except KeyboardInterrupt as problem:
        print(f"advex: {printable(str(problem) or 'interrupted')}", file=sys.stderr)
        return INTERRUPTED
    except (AdvexError, OSError, ImportError, MemoryError) as problem:
        print(f"advex: {printable(str(problem))}", file=sys.stderr)
        return WRONG_USAGE


def _run(options: argparse.Namespace) -> int:
    """Run the command and print its report; the exit code."""
    command = COMMANDS[options.command]
    said: list[str] = []
    # Keras reports downloads on stdout
    with quiet.short_warnings(said), contextlib.redirect_stdout(sys.stderr):
        quiet.wake_keras()
        found = command.run(options)
    if options.json:
        document = {"advex": VERSION, **plain_values(found), "warnings": said}
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        command.show(found)
    return 0 if found["success"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "advex",
        description="Adversarial examples of Keras models.",
        epilog=attack.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"advex {VERSION}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="demo | attack | evaluate | report"
    )
    for command in COMMANDS.values():
        command.add(commands)
    return parser
