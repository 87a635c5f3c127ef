"""Everything that goes wrong in the server, as one tree. Whose fault it is shows in the type."""

from __future__ import annotations


class KvserverError(Exception):
    """Root of the tree."""


class CommandError(KvserverError):
    """A client asked for something that cannot be done; ``text`` is the error reply.

    The text starts with its kind (``ERR``, ``WRONGTYPE`` …) and holds no line end.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ProtocolError(KvserverError):
    """The bytes a client sent are no request; the connection ends after the reply."""


class ConfigError(KvserverError):
    """An option has a value that makes no sense; the message names the option."""


class JournalError(KvserverError):
    """The data directory cannot be used, or no longer; the text is one line for a person."""


class DirectoryError(JournalError):
    """The directory cannot be opened: held by another server, read-only, not a directory."""


class RecordError(JournalError):
    """Bytes with a good CRC that are not a record of ours."""


class DamageError(JournalError):
    """The files are not what was written: names the file, the offset and the sequence number."""

    def __init__(self, file: str, offset: int, reason: str, sequence: int | None = None):
        where = f"{file} at byte {offset}"
        if sequence is not None:
            where += f" (record {sequence})"
        super().__init__(f"journal damaged: {where}: {reason}")
        self.file = file
        self.offset = offset
        self.reason = reason
        self.sequence = sequence


class JournalFullError(JournalError):
    """A record could not be written now; it is kept, and written once there is space again."""


class JournalFailedError(JournalError):
    """The device failed: what was promised as durable may not be. The server stops (exit 74)."""
