"""From judgments to preference rows, and their export."""
