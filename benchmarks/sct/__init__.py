"""Benchmark of search: how many schedules until a strategy finds a known bug.

`textbook` holds small programs in the manner of SCTBench (Thomson, Donaldson and Betts,
"Concurrency testing using controlled schedulers", ACM TOPC 2016), `vfs` the shapes of bugs that
filesystems had, each written from its description, with a repaired twin.  `kernel` says what one
is, `trial` runs them, and ``python -m benchmarks.sct`` prints the table.
"""
