"""A person's judgments and ratings: every act of theirs, and the record that comes of it.

settings       what a study or a session of judging or rating is
work           the state of a person's work on one item, folded from its events; attention
log            the events as they happen, written one by one
tasks          what is asked, one file a task: a debate, pairs, principles, revisions
desk           the queue, an item that is taken up, and its being sent
session        what can be done at an item now, doing it, and why something is refused
live           a debate that goes on while it is judged: the graph, and the person it waits for
assisting      asking the assistant
model_ratings  a model that rates: every item in both orders, resumable

No screen is in here: `tui` shows what these hold, in a full screen or line by line.
"""
