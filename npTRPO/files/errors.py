"""The error for a file that can't be read, and its text."""


class UnreadableFileError(ValueError):
    """A file can't be read as what it should be: the message says why."""


def reason(error: Exception) -> str:
    """Return the text of an error on one line of at most 500 characters, all of them printable."""
    line = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:500]) + "…" * (len(line) > 500)
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text or type(error).__name__
