"""From files and stores to examples that trainers learn from, as token ids.

A row is read (`files`), understood (`rows`, `formats`), encoded within the limits (`encoding`) and
made into examples (`loading`, which has the four functions that trainers call). Rows that fall
out on the way are counted in `RefusedRows` with their ids and the reason. `examples` has what is
done with finished examples: order, held-out part, hashes and figures.

    loaded = load_comparisons(DataSettings(path="pairs.parquet"), tokenizer, vocab_size, 2048)
    require_batch(loaded, batch_size=8)

Settings stand in `oversight.train.settings`, which loads no model library.
"""
