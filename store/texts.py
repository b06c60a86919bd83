"""Which texts can be stored: valid Unicode without NUL, which HDF5 and Parquet give back as put in."""

REASON_CHARS = 1000


def is_storable(text: str) -> bool:
    """Whether a text is valid Unicode (file names of another encoding are not) and without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def plain_reason(reason: str) -> str:
    """A failure's reason as it can be stored: valid Unicode, no NUL, of bounded length."""
    text = reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= REASON_CHARS else text[: REASON_CHARS - 1] + "…"
