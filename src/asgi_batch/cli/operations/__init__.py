"""
Files of operations: lines of JSON, one JSON document, or CSV. Nothing here sends anything.
"""
