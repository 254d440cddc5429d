"""Attackers against policies, and against those who oversee them: judges, critics, reward models
and feedback models.

`goals` says what counts as success, `targets` puts an attack's words before a target, `attacks`
holds the attacks, `running` carries out a recipe, and `measures` says what was found.
"""
