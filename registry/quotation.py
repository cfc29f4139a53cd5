"""Values out of a stranger's file, as an error quotes them."""

LONGEST = 200
"""Characters that are quoted: a file of 100 MB may be one name."""


def quoted(value: object) -> str:
    """A value as Python writes it, cut short where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python prints
        return f"something of type {type(value).__name__} that is too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
