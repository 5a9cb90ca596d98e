"""Comparisons with peers; each is run by hand and keeps its figures in `results/`.

What all share: `harness` times, runs apart, and keeps figures; `peers` and `files` make files and judge them;
`networks` and `data` are what is measured; `readme` fills the tables of the pages, `picture` draws. Every other module
is one question, run by its name: what it costs in accuracy (`pruning`, `quantization`, `precision`), in a training step
(`training`), in an inference (`inference`, `web`) and on the way to a file (`conversion`); whether it takes a layer or
a network (`coverage`) and brings it through whole (`wild`).
"""
