"""
A long run under load and faults that looks for what grows, and for batches that get lost.
"""
