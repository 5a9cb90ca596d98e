"""Comparisons with peers; each is run by hand and keeps its figures in `results/`.

What all share: `harness` times, runs apart, and keeps figures; `peers` and `files` make files and judge them;
`networks` and `data` are what is measured; `readme` fills the tables. Every other module is one question, run by its
name: `pruning`, `quantization` and `precision` (long accuracies in modules beside them), `conversion`, `export`,
`sparse`, `support`, `coverage` with KerasHub's `backbones`, `wild` with its `wild_networks`, `digits`.
"""
