"""The command's entry: arguments in, exit status out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from inferencepool._command import INTERRUPTED, interrupt_quietly, interrupt_usually
from inferencepool._version import __version__
from inferencepool.cli._output import report
from inferencepool.cli._parser import Parser
from inferencepool.cli._standard_output import MissingOutput

__all__ = ["main"]

# What there is, and what it does. A command is loaded when it is asked for: the others would only take time.
_COMMANDS = {
    "validate": ("inferencepool.cli._validate", "check manifests of InferencePools, related objects and Pods"),
    "convert": ("inferencepool.cli._convert", "rewrite manifests for the other version of InferencePool"),
    "pick": ("inferencepool.cli._pick", "pick the endpoint that a request should go to"),
    "serve": ("inferencepool.cli._serve", "serve as the endpoint picker of a gateway, over ext_proc"),
    "envoy-config": ("inferencepool.cli._envoy_config", "print the configuration of an Envoy in front of a pool"),
    "simulate": ("inferencepool.lab.commands._simulate", "compare profiles on simulated model servers"),
    "demo": ("inferencepool.lab.commands._demo", "run a whole pool on this machine and show where requests go"),
}
_FAILED = 1
# What shells report for programs that end by SIGPIPE: 128 and the signal's number.
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Args:
        argv: The arguments without the program's name; None for those of this process.

    Returns:
        The exit status: 0 for success, 1 when a file is invalid, there is no endpoint to pick, or standard output
        cannot be written.

    Raises:
        SystemExit: After ``--help`` and ``--version`` (status 0), and when the arguments make no sense (status 2).
    """
    try:
        interrupt_usually()
        output: Any = sys.stdout
        if output is None:
            output = sys.stdout = MissingOutput()
        elif isinstance(output, TextIOWrapper):
            # A name that the terminal's encoding cannot say is shown escaped, as on standard error.
            output.reconfigure(errors="backslashreplace")
        return _run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        interrupt_quietly()


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _BROKEN_PIPE
    except Exception as error:
        # Loaded for those who need it.
        from inferencepool.errors import InferencePoolError  # noqa: PLC0415 - as above

        if isinstance(error, InferencePoolError):
            report(str(error))
        elif isinstance(error, OSError):
            _tell(error)
        else:
            raise
        return _FAILED
    return status


def _tell(error: OSError) -> None:
    report(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Keep Python from flushing standard output once more when it ends, which would fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        sys.stdout = None  # as Python has it where there is none


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of *argv*: with the flags of the command that is asked for, and the names of the others."""
    parser: argparse.ArgumentParser = Parser(
        prog="inferencepool",
        description="Check and convert manifests of InferencePools, try picks on files, serve as the endpoint picker "
        "of a gateway, configure an Envoy for it, and compare profiles on simulated model servers. To see all of it "
        "work on this machine, run: inferencepool demo",
        epilog="Exit status: 0 success, 1 invalid input or no endpoint, 2 wrong usage. Where a file is read once, - is "
        "standard input. COMMAND --help lists the options of a command.",
    )
    parser.add_argument(
        "--version", action="version", version=f"inferencepool {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Nothing but flags without values stands before it.
    asked = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, (module, text) in _COMMANDS.items():
        if name == asked:
            import_module(module).add_command(commands, text)
        else:
            commands.add_parser(name, help=text, add_help=False)
    return parser
