"""The error of a server, or another machine, that bars or runs were to come from or go to."""


class SourceError(Exception):
    """The source cannot be reached, or answers wrongly, however often it is asked."""
