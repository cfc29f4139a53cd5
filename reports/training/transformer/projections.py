"""The projections of a small transformer, in the paper's order, and where each faces the residual stream."""

FACING = {
    "Q": "Q_v1", "K": "K_v1", "Gate": "Gate_v1", "Up": "Up_v1", "O": "O_u1", "Down": "Down_u1", "V": "V_v1",
}  # fmt: skip
"""The metric of each projection in its residual-facing space: v1 of what reads it, u1 of what writes it."""

OV = ("OV_v1", "OV_u1")
"""The product of O and V reads the residual stream and writes it."""

ALL = (*FACING, "OV")

DIRECTIONS = {
    "v1": "the leading input direction",
    "u1": "the leading output direction",
    "v2": "the second input direction",
    "u2": "the second output direction",
}
"""Every direction that is followed, and what it is."""
