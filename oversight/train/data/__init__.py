"""From files and stores to examples that trainers learn from, as token ids.

A row goes through five stations, one module each: it is read (`reading`,
`sources`), understood (`detecting`, `formats`), rendered (`rendering`, or taken
as the sampler gave it, `given`), made to fit (`truncation`) and checked
(`checking`). What falls out on the way is counted in `Refused` with its id and
reason; `loading` has the four functions that trainers call.

    loaded = load_comparisons(DataSettings(path="pairs.parquet"), tokenizer, vocab_size, 2048)
    require_batch(loaded, batch_size=8)

Settings stand in a module of their own (`settings`) that loads no model library.
"""
