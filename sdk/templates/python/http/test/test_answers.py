import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from answers import answer


class Answers(unittest.TestCase):
    def test_it_greets(self):
        self.assertEqual(answer("/greet/you?x=1"), (200, "Hello, you!\n"))
        self.assertEqual(answer("/")[0], 200)

    def test_nothing_else_is_there(self):
        self.assertEqual(answer("/nowhere")[0], 404)


if __name__ == "__main__":
    unittest.main()
