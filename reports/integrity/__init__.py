"""What `gcont-audit check` found: its types, its codes, and how they are printed."""
