"""
The limits of the app that is run for long.
"""

from asgi_batch import Limits

# Short, so that a run of minutes sees many leases end and many batches expire.
LIMITS = Limits(
    lease=3.0,
    scan_interval=0.5,
    cancel_interval=0.5,
    drain_timeout=5.0,
    result_ttl=30.0,
    retry_ttl=20.0,
)
