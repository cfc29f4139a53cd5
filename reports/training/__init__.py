"""The report of a training experiment: what its runs found, beside what is published about them."""
