"""The report of the small transformers: each projection's continuity, beside Table 2 and its claims."""
