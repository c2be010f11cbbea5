"""A neural network without autograd: layers with hand-written backward passes, training, trained networks."""
