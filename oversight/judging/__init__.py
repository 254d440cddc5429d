"""A person's judgment: what they are shown, every act of theirs, and the record that comes of it.

settings     what a study or a session of judging is
draws        the order in which this judge is shown the sides; which assistance an item gets
work         the state of a judge's work on one item, folded from its events
log          the events as they happen, written one by one
judgment     from the work to a `Judgment`
attention    seconds of active attention by panel
desk         the queue, an item that is taken up, and its being sent
live         a debate that goes on while it is judged: the graph, and the person it waits for
assisting    asking the assistant
feedback     the score after sending, and one's own calibration

No screen is in here: `tui` shows what these hold, in a full screen or line by line.
"""
