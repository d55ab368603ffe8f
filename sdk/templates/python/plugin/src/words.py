"""What the plugin {{name}} does: plain Python, for any interpreter."""


def count(text: str) -> tuple[int, str]:
    """How many words there are, and the longest."""
    words = text.split()
    return len(words), max(words, key=len, default="")
