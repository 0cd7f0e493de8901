"""Lists of words in sentences, and their articles."""

from __future__ import annotations

from collections.abc import Sequence


def enumerate_words(words: Sequence[str]) -> str:
    """One; one and two; one, two and three."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def with_article(word: str) -> str:
    """a Fear, an Angry."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
