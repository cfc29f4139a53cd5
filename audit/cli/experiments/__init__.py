"""`gcont-audit train`: its options, and one module for each kind of network."""
