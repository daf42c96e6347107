"""What ``import heartseg`` offers: functions for notebooks and pipelines.

Nothing is printed. Progress goes to a callable, warnings go to the logger ``heartseg``, and every
error that the caller can fix is a ``HeartsegError``.
"""

import logging

# Without a handler Python would print warnings to stderr.
logging.getLogger("heartseg").addHandler(logging.NullHandler())
