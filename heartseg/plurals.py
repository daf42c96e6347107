"""Numbers with their nouns, for messages."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form: ``1 slice``, ``8,329 slices``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
