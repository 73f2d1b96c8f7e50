"""What strangers write is no answer: the one guard that every text from outside passes on its way into a prompt.

Tokens hold a prompt's lines together: a line break begins a line, a colon stands before an answer, special tokens begin
and end a document. Texts are tokenised apart from them, so it is enough that no text can make such a token: a guarded
text has no line break, no colon and no name of a special token. What its words may do is bounded elsewhere, see
`corella.llm.bound`.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

LONGEST = 4096
"""Characters of a text that are read: far more than the tokens that a prompt keeps."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)
"""Control and format characters, halves of characters, and others that show nothing; white space is not among them."""

_COLONS = (
    ":"
    "\u02d0\u02f8\u0589\u05c3\u0703\u0704\u1361\u1365\u1366\u16ec\u1803\u1804\u1809\u205a\u205d\u2236\u2237\u2239\u223a"
    "\u223b\u2254\u2255\u2982\u29f4\u2a74\u2af6\u2e2c\ua4fd\ua6f4\ua789\ufe13\ufe19\ufe30\ufe55\uff1a"
)
"""The colon and what looks like one."""
_COLON = re.compile(f"[{_COLONS}][{_COLONS} ]*")
_INSTEAD = " - "
_WORDS = re.compile(r"\S{1,64}|\s+")
"""Composing marks takes time that grows with the square of their number, so a text is normalised word by word."""


def guarded(text: str, special: Sequence[str] = ()) -> str:
    """A text from outside as one line without colons, invisible characters and names of `special` tokens.

    What reads the same is the same (NFKC). A colon, or what looks like one, becomes a dash. Linear in the text.

    >>> guarded("Star Trek: First Contact")
    'Star Trek - First Contact'
    >>> guarded("Heat\\uff1a Y\\u200bes\\nJaws:No <|end|>", ["<|end|>"])
    'Heat - Yes Jaws - No'
    """
    text = text[:LONGEST]
    if not text.isascii():  # NFKC makes dots of some that look like a colon
        text = "".join(unicodedata.normalize("NFKC", word) for word in _WORDS.findall(_COLON.sub(_INSTEAD, text)))
    text = _COLON.sub(_INSTEAD, " ".join(_INVISIBLE.sub("", text).split()))
    for name in special:
        text = text.replace(name, " ")
    return " ".join(text.split())[:LONGEST].rstrip()


def special_names(tokenizer: Any) -> list[str]:
    """What the tokenizer takes for one token wherever it stands, longest first. Words and white space are no harm."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    names = {name for name in added if not all(c.isalnum() or c.isspace() for c in name)}
    return sorted({*names, *tokenizer.all_special_tokens}, key=len, reverse=True)
