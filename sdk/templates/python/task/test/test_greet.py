import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from greet import greeting


class Greet(unittest.TestCase):
    def test_it_greets(self):
        self.assertEqual(greeting("you"), "Hello, you!")


if __name__ == "__main__":
    unittest.main()
