"""Batch jobs: calls of models as files, answered by whatever runs them, and taken in again.

A job goes in waves. Each wave runs the graphs as far as the answers that are there take them; the
calls that have no answer yet become lines of request files in the format of OpenAI's batch
interface, which `vllm run-batch`, a hosted batch service, Ray, a Slurm array or this package's own
runner answers. A line is known by the hash of what it asks, so it does not matter in which order,
how often or in how many files answers come back.
"""
