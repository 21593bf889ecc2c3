"""
``python -m asgi_batch.cli``.
"""

import sys

from asgi_batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
