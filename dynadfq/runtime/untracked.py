"""Files that a stage reads and DVC does not follow, and their fingerprint in its place."""

from __future__ import annotations

from typing import NamedTuple

from dynadfq.runtime.errors import InvalidArgument, shown


class Untracked(NamedTuple):
    """Such files."""

    what: str  # which files, for messages
    fingerprint: str

    def require(self, expected: str | None) -> None:
        """Check the fingerprint that a setting holds; None accepts any files.

        Raises:
            InvalidArgument: it is that of other files.
        """
        if expected not in (None, self.fingerprint):
            raise InvalidArgument(
                "fingerprint",
                f"{shown(expected)} is that of other files: {self.what} have "
                f"{self.fingerprint}; write that if they are the right ones, so that DVC runs the "
                "stages that read them",
            )

    def notice(self, keys: str) -> str:
        """Return what to say where none of the settings that may hold the fingerprint does."""
        return (
            f"{self.what[0].upper()}{self.what[1:]} have the fingerprint {self.fingerprint}. DVC "
            f"does not see when they change, unless you set {keys} to it"
        )
