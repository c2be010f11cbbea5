"""The techniques on whole networks: Network in, Network out; only `distill` changes the one it is given, as `fit` does."""
