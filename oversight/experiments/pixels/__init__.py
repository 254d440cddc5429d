"""The pixel debate (Irving, Christiano and Amodei 2018, arXiv:1805.00899): debate about an image.

The judge is a classifier that sees a few pixels of an image. Two players see all of it: the
honest one claims its true label, the liar another one; they show one pixel each in turn, and the
judge says which of the two labels is likelier.

| file | what it is |
|---|---|
| `images.py` | scikit-learn's digits, or MNIST from a folder, split by a seed |
| `judge.py` | the sparse classifier: trained on a few random pixels of each image |
| `search.py` | every set of pixels and its value: exact minimax where that is possible |
| `game.py` | the rules, the matches that are played, and one game from commitment to verdict |
| `records.py` | a game as the project's records, and back |
| `running.py` | every match on every image; what the store holds already is not played again |
| `results.py` | the table, with intervals clustered by image, beside the paper's figures |
| `pictures.py` | the pictures and the page |
"""
