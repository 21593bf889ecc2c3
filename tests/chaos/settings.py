"""
The numbers that workers run with and that checkers go by.
"""

from typing import Final

LEASE: Final = 1.0
SCAN_INTERVAL: Final = 0.2
CANCEL_INTERVAL: Final = 0.2
DRAIN_TIMEOUT: Final = 0.7
CONCURRENCY: Final = 4
MAX_ATTEMPTS: Final = 3
MAX_CONNECTIONS: Final = 10
#: Operations of one chunk, where there is a queue, and seconds until it is sent again.
CHUNK: Final = 4
RESEND: Final = 0.4

#: Parts of a lease after which a holder that hears nothing starts nothing more.
FENCE: Final = 2 / 3
#: Seconds that a call of the store may take.
CALL: Final = 2.5

#: A worker looks this often whether it stood still, and for how long at least.
BEAT: Final = 0.05
LATE: Final = 0.15

#: Seconds between a decision in one process and its trace in another, on a busy machine.
SLACK: Final = 0.1
#: Seconds after the answer to a cancellation from which on nothing starts.
CANCEL_SLACK: Final = 0.05
