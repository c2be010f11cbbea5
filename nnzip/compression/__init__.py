"""The techniques on whole networks: Network in, Network out; the network that is given is never changed."""
