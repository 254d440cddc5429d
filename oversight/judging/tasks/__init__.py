"""What else people are asked of recorded words: pairs, principles, revisions.

settings     what a session of rating is
asking       the questions of each task, and the answers that each of them takes
work         the state of a judge's work on one item, folded from its events
log          the events as they happen, written one by one
rating       from the work to a `Feedback`
desk         the queue, an item that is taken up, and its being sent

No screen is in here, as with `oversight.judging`.
"""
