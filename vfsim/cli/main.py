"""``vfsim``: the entry point.  Ctrl-C is dealt with before anything is loaded, for loading takes a
while, and who has mistyped a command does not wait for it.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    try:
        from vfsim.cli.commands import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("vfsim: interrupted\n")
        status = INTERRUPTED
    sys.exit(status)
