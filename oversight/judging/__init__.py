"""A person's judgment: what they are shown, every act of theirs, and the record that comes of it.

settings     what a study or a session of judging is
work         the state of a judge's work on one item, folded from its events
log          the events as they happen, written one by one
judgment     from the work to a `Judgment`; the order of the sides, and which assistance is drawn
folding      what judging and rating share: the fold over events, seconds of active attention
desk         the queue, an item that is taken up, its being sent, and the score after that
live         a debate that goes on while it is judged: the graph, and the person it waits for
assisting    asking the assistant

No screen is in here: `tui` shows what these hold, in a full screen or line by line.
"""
