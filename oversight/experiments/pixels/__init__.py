"""The pixel debate (Irving, Christiano and Amodei 2018, arXiv:1805.00899): debate about an image.

The judge is a classifier that sees a few pixels of an image. Two players see all of it: the
honest one claims its true label, the liar another one; they show one pixel each in turn, and the
judge says which of the two labels is likelier.

| file | what it is |
|---|---|
| `judge.py` | images, digits or MNIST, split by a seed; the sparse classifier of a few pixels |
| `game.py` | rules, matches, exact minimax where possible; a game from commitment to verdict |
| `running.py` | every match on every image, as records; what the store holds stays as it is |
| `results.py` | the table, with intervals clustered by image, beside the paper's figures |
| `pictures.py` | the pictures and the page |
"""
