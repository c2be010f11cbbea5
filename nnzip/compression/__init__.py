"""The techniques on whole networks: Network in, Network out; only `distill` changes the network it is given."""
