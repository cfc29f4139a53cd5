"""Guess a layout from names and shapes: words of a name, stacks of layers, the parts of a layer."""
