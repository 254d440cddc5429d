"""Several judges of the same items: how far they agree, what they say together, whose values count.

All functions are of plain arrays, and give None, or a reason in words, for data that cannot bear
the statistic.

| file | what it is |
|---|---|
| `agreement.py` | kappa of two raters and of many, alpha of nominal, ordinal and interval data |
| `labels.py` | one label an item from many votes, with each rater's accuracy: majority, EM |
| `values.py` | raters in groups: the choice under several rules, and each group's regret |
"""
