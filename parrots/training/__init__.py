"""How weights are found: the loop, the optimizer, the spreading over workers."""
