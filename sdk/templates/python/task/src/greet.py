"""What the task {{name}} says: plain Python, for any interpreter."""


def greeting(name: str) -> str:
    return f"Hello, {name}!"
