"""The plugin {{name}}, as the host sees it: its functions are those of wit/plugin.wit."""

import wit_world
from words import count


class WitWorld(wit_world.WitWorld):
    def summarize(self, text: str) -> wit_world.Summary:
        words, longest = count(text)
        return wit_world.Summary(words, longest)
