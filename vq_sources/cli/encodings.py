"""Output for terminals and files whose encoding lacks some of the characters that the command writes."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

__all__ = ["plainly", "write_plainly"]

_HANDLER = "vq_sources.plainly"
_WORDS = {
    **dict.fromkeys("−–—‐‑", "-"),
    **dict.fromkeys("·•", "-"),
    **{
        "×": "x",
        "±": "+/-",
        "…": "...",
        "✓": "+",
        "Σ": "sum",
        "Π": "product",
        "≤": "<=",
        "≥": ">=",
        "∞": "inf",
        "→": "->",
    },
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("─━═╌╍┄┅", "-"),
    **dict.fromkeys("│┃║╎╏", "|"),
}
_BOXES, _SPINNERS = range(0x2500, 0x2580), range(0x2800, 0x2900)


def plainly(text: str) -> str:
    """The same in ASCII, as far as it can be said: known signs by words, letters without their accents, else "?".

    >>> plainly("2 × 2 ± 1, −log2 p … é")
    '2 x 2 +/- 1, -log2 p ... e'
    """
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character in _WORDS:
        return _WORDS[character]
    if ord(character) in _BOXES:
        return "+"
    if ord(character) in _SPINNERS:
        return "*"
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or "?"


def write_plainly() -> None:
    """Let stdout and stderr write `plainly` what their encoding does not have, instead of failing."""

    def replace(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return plainly(error.object[error.start : error.end]), error.end

    codecs.register_error(_HANDLER, replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
