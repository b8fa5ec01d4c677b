"""File names as text for people."""


def printable(name: str) -> str:
    """A file name without characters that control a terminal or break a line."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
