"""Catch a bug, look at it in columns, and play it again from its token: ``python -m
examples.demo``.

Covers: ``vfsim check`` from Python, reports, tokens, ``vfsim replay``. Scenario: the broken
filesystem of ``examples/broken/08_unlocked_counter.py``, where two new files get one number.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vfsim import check_filesystem

BROKEN = Path(__file__).parent / "broken" / "08_unlocked_counter.py"


def main() -> int:
    """Check, print the first report, replay its token; 0 if the bug came back."""
    name = f"examples/broken/{BROKEN.name}"
    print(f"$ vfsim check {name}\n")
    found = check_filesystem(str(BROKEN), schedules=50)
    if not found.failures:
        print("nothing was found: this should not happen")
        return 1
    first = found.failures[0]
    print(first.report)
    print(f"\n{len(found.failures)} found in {found.run:,} schedules.  Again, from the token:\n")
    print("$ vfsim replay TOKEN")
    again = subprocess.run(
        [sys.executable, "-m", "vfsim", "replay", first.token], capture_output=True, text=True
    )
    print("\n".join(again.stdout.splitlines()[:4]))
    return 0 if again.returncode == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
