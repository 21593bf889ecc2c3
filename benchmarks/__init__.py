"""
What batches cost: in time per operation, over HTTP, and in memory.
"""
