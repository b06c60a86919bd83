"""Where the rows of a depot lie: sorted runs of keys, in memory and in a disposable cache on this machine.

The sidecars in the depot are the truth; nothing here is needed to have it back.
"""
