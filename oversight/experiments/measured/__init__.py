"""The hard problems as numbers: one suite, each part a page of one report (`oversight measure`).

| file | what it is |
|---|---|
| `suite.py` | the parts with their settings, as jobs that can be killed and go on |
| `best_of_n.py` | best of n over KL, exactly; fitted forms; a planted flaw and its step |
| `overoptimisation.py` | proxies of sampled speeches against their true reward |
| `detection.py` | a shift detected from texts, at a proven rate of false alarms |
| `shift.py` | a judge under named shifts: accuracy, calibration, abstention, detection |
| `control.py` | an untrusted model under protocols: safety against usefulness |
| `weak_to_strong.py` | learners taught by a weak supervisor: the gap that they recover |
| `learners.py` | the supervisor and its learners: cut from the policy, taught, asked |
| `pages.py` | pictures, the report, the results as text |

Every part has its controls, and says in one sentence which conclusion its numbers do not carry.
"""
