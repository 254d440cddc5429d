"""Looking inside models that argue and judge: reading, probes, steering, lenses, sparse features.

`reading` writes sites of token rows to disk and reads them again; `steering` runs a model changed;
`contrasts` makes labelled sets, `probes` fits directions to them, and `evaluation` reports a probe
beside its controls; `patching` finds the places that matter, `sae` finds sparse features, `planted`
makes models of which it is known what is inside, and `pictures` draws.
"""
