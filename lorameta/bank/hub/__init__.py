"""Banks whose adapters are on the Hugging Face Hub: an index here, weights fetched when a mix first needs them.

`presets` and `collect` say which adapters belong to which datasets, `build` makes an index of them, `pull` and `push`
carry an index from one machine to another, `fetch` gets the weights of an adapter. `client` is the only place that
talks to the Hub, through `huggingface_hub`; datasets come through `datasets`. Both are imported when they are needed.
"""
