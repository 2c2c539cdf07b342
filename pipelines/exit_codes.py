"""What the exit code of a program says: ``docs/durability.md``, ``docs/download.md``."""

# Light, for `pipelines.ending`: nothing is imported here.
ERROR = 1
REFUSED = 2
NON_FINITE = 3
WORKER_LOST = 4
DISK = 5
NETWORK = 6
INTERRUPTED = 130
