"""The error of a worker process that is gone: light, for programs that never start one."""


class WorkerLostError(RuntimeError):
    """A worker process, as of the environment, has died or does not answer."""
