"""What the engine costs, as ratios to bare operations: ``python -m benchmarks``.

Absolute times depend on the machine and its neighbours; ratios to a reference that was measured
right beside do not.  Every figure is the median of several rounds, in which all candidates take
turns.
"""
