"""Linearizability of forty calls at once, in the time of one verdict."""

from __future__ import annotations

import os
from statistics import median
from time import process_time
from typing import Any

NAME = "linearizability of 40 calls at once, per second"
AIM = 5
"""Verdicts per second to aim at on a two-core cloud machine; reported, never asserted."""


def entries(rounds: int = 5, verdicts: int = 10) -> list[dict[str, Any]]:
    """How many histories are judged in a second: half the calls make files, half get EEXIST."""
    try:
        from vfsim.testing.linearizability import Operation, check_linearizable
        from vfsim.testing.model import Call, Model
        from vfsim.testing.scenario import Outcome
    except ImportError:
        return []
    before = Model()
    before.run(Call("mkdir", ("/d", 0o755)))
    flags = os.O_CREAT | os.O_EXCL
    history = [
        Operation(
            number,
            Call("open", (f"/d/{number % 20}", flags, 0o644)),
            Outcome(0, 0) if number >= 20 else Outcome(17),
            number,
            100 + number,
        )
        for number in range(40)
    ]
    rates = []
    for _ in range(rounds):
        start = process_time()
        for _ in range(verdicts):
            assert check_linearizable(history, before)
        rates.append(verdicts / (process_time() - start))
    rate = median(rates)
    return [
        {"name": NAME, "ratio": round(rate), "target": AIM, "of": "", "ok": rate >= AIM, "ns": 0}
    ]
