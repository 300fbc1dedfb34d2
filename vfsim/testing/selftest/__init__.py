"""The self-test: does the checker catch what it should, and keep silent about the rest?

Every module beside this one contributes cases (`case.Case`): something broken on purpose, injected
from outside, with the rule and the blame that must come out; or something correct, which must come
out silent.  ``vfsim selftest`` runs them all.
"""
