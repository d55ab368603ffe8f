import os

import wit_world
from wit_world import Summary


class WitWorld(wit_world.WitWorld):
    def summarize(self, text: str) -> Summary:
        wit_world.log("Python counts words")
        ignored = os.environ.get("IGNORE", "").split()
        words = [word for word in text.split() if word not in ignored]
        return Summary(words=len(words), longest=max(words, key=len, default=""))

    def crash(self) -> None:
        raise RuntimeError("as asked")

    def spin(self) -> None:
        while True:
            pass
