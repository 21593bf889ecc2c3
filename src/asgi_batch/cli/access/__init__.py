"""
What access logs tell: which requests the same caller sends in a row. Nothing here prints.
"""
