"""
``python -m asgi_batch.cli``.
"""

from asgi_batch.cli import main

main()
