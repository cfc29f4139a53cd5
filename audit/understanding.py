"""Understand a checkpoint: its layout by one of the registry's families, or by a user's own."""

from collections.abc import Mapping, Sequence
from shlex import quote

from audit.checkpoint import Checkpoint
from audit.errors import ConfigError, UnknownFamilyError, UnsupportedDtypeError, UsageError
from audit.options import AuditOptions
from registry import Contradiction, Family, FamilyFileError, Layout, Miss, families, match, read_family


def known_families(options: AuditOptions) -> Sequence[Family]:
    """The registry's families, a user's own before them; raises UsageError for a broken declaration."""
    if options.family_path is None:
        return families()
    try:
        own = read_family(options.family_path)
    except FamilyFileError as error:
        raise UsageError(str(error), "`gcont-audit families --show llama` shows one") from error
    return (own, *(family for family in families() if family.name != own.name))


def understand(checkpoint: Checkpoint, options: AuditOptions) -> Layout:
    """The checkpoint's layout; raises what make_plan does for one that cannot be read."""
    known = known_families(options)
    chosen = known[0].name if options.family_path else options.family
    found = match(checkpoint.shapes, checkpoint.config, known, chosen)
    match found:
        case Contradiction(reason):
            if method := quantisation(checkpoint.config):
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({method}): {reason}", "audit the unquantised model"
                )
            own = f"{options.family_path} fits them, and that " if options.family_path else ""
            raise ConfigError(
                f"{checkpoint.id}: {reason}", f"check that {own}config.json belongs to these weights"
            )
        case Miss(reason, nearest):
            quantised = quantisation(checkpoint.config)
            if quantised:
                raise UnsupportedDtypeError(
                    f"{checkpoint.id} is quantised ({quantised}): {reason}", "audit the unquantised model"
                )
            near = (
                f"nearest: {', '.join(nearest)}; pass --family NAME if one is right, or " if nearest else ""
            )
            draft = f"`gcont-audit families --draft {quote(checkpoint.id)}`"
            raise UnknownFamilyError(
                f"{checkpoint.id}: {reason}", f"{near}declare it: {draft} writes a first --family-file"
            )
        case Layout():
            return found


def quantisation(config: Mapping[str, object] | None) -> str | None:
    """The quantisation method a config names, if any."""
    said = (config or {}).get("quantization_config")
    if not isinstance(said, Mapping):
        return None
    method = said.get("quant_method")
    return method if isinstance(method, str) and method else "method not named"
