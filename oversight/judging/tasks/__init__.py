"""Tasks beside judging, for people and models, on recorded words: pairs, principles, revisions.

log          the events as they happen, written one by one, and the work that they come to
rating       the questions of each task, the answers they take, and from the work to a `Feedback`
models       a model that rates: every item in both orders, resumable
desk         the queue, an item that is taken up, and its being sent

No screen is in here, as with `oversight.judging`.
"""
