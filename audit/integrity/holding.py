"""The tensors held against config.json, by the layout of a family."""

from collections.abc import Iterator

from audit.checkpoint import Checkpoint, StoredTensor
from audit.checkpoint.files import CONFIG
from audit.checkpoint.folder import Folder
from audit.coverage import layout_findings
from audit.errors import ConfigError, UnknownFamilyError, UnsupportedDtypeError
from audit.integrity.survey import Survey
from audit.options import AuditOptions
from audit.understanding import understand
from registry import Layout, Projection
from reports.integrity.model import Problem


def hold(folder: Folder, found: Survey, options: AuditOptions) -> tuple[str | None, tuple[Problem, ...]]:
    """The family that the tensors were held against, None for none, and what does not agree.

    Raises UsageError for a family file that is no declaration.
    """
    if found.incomplete:
        return None, (_unchecked(found.incomplete),)
    tensors = {name: StoredTensor(shard.file, entry) for name, shard, entry in found.tensors}
    shards = tuple(shard.file for shard in found.shards)
    checkpoint = Checkpoint(folder.id, folder.source, folder.revision, found.config, shards, tensors)
    try:
        layout = understand(checkpoint, options)
    except ConfigError as error:
        return None, (Problem("config", "error", _without(str(error), folder.id), CONFIG),)
    except UnsupportedDtypeError as error:
        return None, (_unchecked(error.message),)
    except UnknownFamilyError as error:
        if found.config is None:
            return None, (_unchecked(f"there is no {CONFIG}"),)
        return None, (Problem("unknown-family", "warning", _without(str(error), folder.id), CONFIG),)
    return layout.family, tuple(_problems(checkpoint, layout))


def _without(message: str, model: str) -> str:
    """A message without the model and the file in front, which stand beside it anyway."""
    return message.removeprefix(f"{model}: ").removeprefix(f"{CONFIG}: ")


def _unchecked(why: str) -> Problem:
    return Problem("layout-unchecked", "info", f"the tensors were not held against {CONFIG}: {why}")


def _problems(checkpoint: Checkpoint, layout: Layout) -> Iterator[Problem]:
    """What an audit would say of the layout; the OV composite apart, which no file holds."""
    # those that config.json counts and no tensor is of, too
    chosen = {
        stack.name: {layer.index for layer in stack.layers} | {lack.layer for lack in stack.lacks}
        for stack in layout.stacks
    }
    stored = [projection for projection in Projection if projection is not Projection.OV]
    unknown = iter(layout.unknown)
    for finding in layout_findings(checkpoint.shapes, layout, chosen, stored, False):
        if finding.code == "unknown-tensor":
            tensor = next(unknown)
            file = checkpoint.tensors[tensor].file.name
            yield Problem(finding.code, finding.severity, finding.message, file, tensor)
        else:
            # a sub-model of no known family is whole all the same
            severity = "info" if finding.code == "unread-stack" else finding.severity
            yield Problem(finding.code, severity, finding.message)
