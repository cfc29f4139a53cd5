"""What draws each of the toy MLP's figures, by its name; loading it loads matplotlib."""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from reports.training.drawings.phases import phases
from reports.training.drawings.precedence import precedence
from reports.training.drawings.rank import rank
from reports.training.drawings.shares import shares
from reports.training.drawings.summary import summary
from reports.training.drawings.threshold import threshold
from reports.training.model import Experiment
from reports.training.pictures import PHASES, PRECEDENCE, RANK, SHARES, SUMMARY, THRESHOLD, Picture

DRAWINGS: Mapping[Picture, Callable[[Figure, Experiment], None]] = {
    SUMMARY: summary,
    PHASES: phases,
    PRECEDENCE: precedence,
    RANK: rank,
    SHARES: shares,
    THRESHOLD: threshold,
}
