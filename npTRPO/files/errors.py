"""The error for a file that can't be read, and its text."""


class UnreadableFileError(ValueError):
    """A file can't be read as what it should be: the message says why."""


def reason(error: Exception) -> str:
    """Return the text of an error on one line of at most 500 characters, all of them printable."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__


def printable(text: str) -> str:
    """Return at most 500 characters of a text, with escapes in place of those that can't be printed."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:500]) + "…" * (len(text) > 500)
