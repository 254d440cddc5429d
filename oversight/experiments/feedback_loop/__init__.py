"""A guarded model in use that learns from what its users say, on requests whose answers a rule
decides.

settings   which model is served, how many rounds, who its users are, how it is trained
users      simulated users: what they say of an answer, and how often they err
service    the guard as a program of its own, and the clients that talk to it over HTTP
stages     the plan as jobs: a job serves, hears, trains and replaces the weights, round after round
results    bad answers by round and arm, words made of the figures, and the picture
"""
