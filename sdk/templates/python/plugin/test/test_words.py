import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from words import count


class Words(unittest.TestCase):
    def test_it_counts_words(self):
        self.assertEqual(count("every word counts"), (3, "counts"))
        self.assertEqual(count(""), (0, ""))


if __name__ == "__main__":
    unittest.main()
