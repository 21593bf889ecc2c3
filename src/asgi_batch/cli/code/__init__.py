"""
What source trees tell: which requests they send in loops. Nothing that is read is run.
"""
