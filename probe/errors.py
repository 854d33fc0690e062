"""The one family of errors whose message is meant for a user: one line, no traceback."""


class ProbeError(Exception):
    """Something went wrong that the user can understand: exit status 1.

    The message says what is wrong, the value that was met, and what is allowed.
    """

    exit_code = 1


class UsageError(ProbeError, ValueError):
    """The request itself is wrong (a flag, a configuration, a condition): exit status 2."""

    exit_code = 2


class UnwrittenWarning(UserWarning):
    """A file of a run folder could not be written; what it would hold was worked out all the same.

    The message is one line that names the file and the reason.
    """
