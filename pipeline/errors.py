"""The errors that a user sees: one sentence each."""

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """An error that a user can mend: one sentence that says what was wrong, where, and what was expected.

    Stages print it without a traceback and exit with status 1 (``pipeline.stage``).
    """


def sentence_of_os_error(error: OSError) -> str:
    """Say what a disk or a file system refused, where, and what to do about it."""
    where = f" at {error.filename}" if error.filename else ""
    remedy = "make room" if error.errno in NO_ROOM else "mend that"
    return (
        f"{error.strerror or error}{where}: {remedy} and run the same again; finished shards and checkpoints "
        "are kept."
    )
