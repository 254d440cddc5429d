"""Text of models and people: verifying quotes, rendering prompts, showing it safely."""
