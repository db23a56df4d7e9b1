"""What ``fastun doctor`` finds of how this host confines a gateway's workers."""

from __future__ import annotations

from fastun.doctor.finding import Finding, Subject, finding
from fastun.status.confinement import describe


def _secret_memory() -> tuple[str, ...]:
    """Return why sessions' keys would not be in memory that nothing else can read; () if so."""
    from fastun.native import KeyRegion  # noqa: PLC0415 (it may not load: that is a finding)

    region = KeyRegion.create(secret=True)
    why = region.secret_error
    region.close()
    return (f"secret memory for keys ({why})",) if why else ()


def confinement(_: Subject) -> Finding:
    """Check what workers would be confined to, if this process started them."""
    from fastun import native  # noqa: PLC0415 (it may not load: that is a finding)
    from fastun.host import users  # noqa: PLC0415 (as above)

    found, chosen = native.probe_confinement(), users.choose()
    lacks = (*found.lacks, *_secret_memory())
    if chosen.why:
        lacks = (*lacks, f"a user of their own ({chosen.why})")
    said = describe(
        chosen.user or found.user, found.landlock, has_filter=found.has_filter, lacks=lacks
    )
    if found.lacks:
        fix = "optional: a kernel that has them limits what a broken worker can do"
        return finding("warn", f"confined: {said}", fix)
    return finding("ok", f"confined: {said}")
