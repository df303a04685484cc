"""The one exception that a user may see."""


class UserError(Exception):
    """Something a user can mend: one sentence that says what was wrong, where, and what was expected.

    Stages print it without a traceback and exit with status 1 (``pipeline.stage``).
    """
