"""Keys: what was seen, as 40 hexadecimal characters.

A key is the BLAKE2b-160 digest of a tagged content, so that a crop, a file and a text never share
one. For a crop it covers mode, size and pixels (the encoding on disk may change); for a whole
picture its encoded bytes and the version of their decoding; for a text its UTF-8 form. An item whose picture is not here
has a key of its name.
"""

import hashlib
import re
from collections.abc import Iterable

KEY_BYTES = 20
KEY_CHARS = 2 * KEY_BYTES
# Of formats whose pictures were decoded to other pixels by an earlier version of Deponij, the version of their decoding
# today; of all others it is 1. Items that were made under other versions have keys, or crops, of other pixels.
DECODERS = {"GIF": 2, "PNG": 2, "TIFF": 2}
_KEY = re.compile(f"[0-9a-f]{{{KEY_CHARS}}}")
_HEXADECIMAL = re.compile("[0-9a-f]*")


def key_of_pixels(mode: str, size_px: tuple[int, int], raw: bytes) -> str:
    """Key of a crop: Pillow mode, (width, height) and the raw pixels row by row."""
    width, height = size_px
    return _digest(f"pixels:{mode}:{width}x{height}:".encode(), raw)


def key_of_bytes(encoded: bytes, picture_format: str = "") -> str:
    """Key of a whole picture: its encoded bytes, and which of its format's decodings in `DECODERS` they go through."""
    version = DECODERS.get(picture_format)
    return _digest(f"encoded:{picture_format}@{version}:".encode() if version else b"encoded:", encoded)


def key_of_text(text: str) -> str:
    """Key of a text, exactly as it is given to the tokenizer."""
    return _digest(b"text:", text.encode())


def key_of_name(name: str) -> str:
    """Key of an item whose picture is not here: nothing was seen of it but what it is called."""
    return _digest(b"name:", name.encode())


def not_keys(texts: Iterable[str]) -> list[str]:
    """Those that are no keys: other than 40 lower-case hexadecimal characters."""
    listed = list(texts)
    # Of hundreds of thousands one look at all of them takes a tenth of the time.
    if all(len(text) == KEY_CHARS for text in listed) and _HEXADECIMAL.fullmatch("".join(listed)):
        return []
    return [text for text in listed if _KEY.fullmatch(text) is None]


def _digest(tag: bytes, content: bytes) -> str:
    digest = hashlib.blake2b(tag, digest_size=KEY_BYTES)
    digest.update(content)
    return digest.hexdigest()
