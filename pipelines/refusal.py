"""How a program says that it cannot work with what it was given."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_refusals() -> Iterator[None]:
    """Print what is wrong with the user's input in one line and exit with 2.

    For the steps that look at input; an error in the program itself keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
