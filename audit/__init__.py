"""Audit a pretrained transformer's weights: `audit_model("org/name")` returns the report the CLI writes.

Importing this package costs nothing; torch is loaded by the first audit.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.audit import audit_model
    from audit.errors import AuditError
    from audit.options import AuditOptions

__all__ = ["AuditError", "AuditOptions", "audit_model"]

_HOMES = {"audit_model": "audit.audit", "AuditOptions": "audit.options", "AuditError": "audit.errors"}


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in, when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
