"""The entry point: words are parsed, one of five commands runs, and its report is printed."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from advex._version import VERSION
from advex.cli import attack, attacks, demo, evaluate, quiet, report
from advex.cli.screen import plain_values, printable
from advex.cli.words import as_options
from advex.errors import AdvexError, nearest

COMMANDS = {
    "demo": demo,
    "attack": attack,
    "attacks": attacks,
    "evaluate": evaluate,
    "report": report,
}

EPILOG = """\
exit codes: 0 success, 1 less than that (the --help of each command says what),
  2 wrong usage, 130 interrupted

examples:
  advex demo
  advex attack cat.jpg --model MobileNetV2 --target toaster
  advex attack --help
"""
WRONG_USAGE, INTERRUPTED = 2, 130  # exit codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; default those of the process.

    Returns:
        The exit code: 0 for success, 1 for less (``attack``: an image was not fooled; ``demo``: a
        file is not what it claims to be; ``evaluate``: an image could not be read), 2 for wrong
        usage, 130 after Ctrl-C.

    Example:
        >>> main(["--version"])
        advex ...
        0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        _parser()[0].print_help(sys.stderr)
        return WRONG_USAGE
    try:
        options = _parsed(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    options.typed = words
    try:
        return _run(options)
    except KeyboardInterrupt as problem:
        print(f"advex: {printable(str(problem) or 'interrupted')}", file=sys.stderr)
        return INTERRUPTED
    except (AdvexError, OSError, ImportError, MemoryError) as problem:
        print(f"advex: {printable(as_options(str(problem)))}", file=sys.stderr)
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


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options; what no command knows is answered by the command that was meant."""
    parser, commands = _parser()
    options, rest = parser.parse_known_args(words)
    command = commands[options.command]
    known = [name for action in command._actions for name in action.option_strings]
    odd = next((word for word in rest if word.startswith("-")), "")
    close = nearest(odd.partition("=")[0], known, 1) if odd.startswith("--") else []
    hint = f"; did you mean {close[0]}?" if close else ""
    if rest:
        command.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return options


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        "advex",
        description="Adversarial examples of Keras models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"advex {VERSION}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for command in COMMANDS.values():
        command.add(commands)
    return parser, commands.choices
