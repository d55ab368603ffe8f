"""What the service {{name}} answers: plain Python, for any interpreter."""

from urllib.parse import unquote


def answer(target: str) -> tuple[int, str]:
    """Status and text for a path, with or without a query."""
    path = target.partition("?")[0]
    if path == "/":
        return 200, "Hello from {{name}}!\n"
    match path.split("/"):
        case ["", "greet", name] if name:
            return 200, f"Hello, {unquote(name)}!\n"
    return 404, "not found\n"
