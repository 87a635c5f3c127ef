"""The journal: every change that was acknowledged, on disk, in order.

How the server uses it::

    fs = RealFileSystem(data_dir, create=True)
    recovery = Recovery(fs)  # takes the LOCK, reads the manifest
    for done, total in recovery.replay(keyspace.apply_many):  # gives lists of effects
        await trio.lowlevel.checkpoint()  # every 8 ms, so that early clients get LOADING
    journal = recovery.open(segment_bytes=64 << 20)
    service = JournalService(journal, "everysec")
    nursery.start_soon(service.run)  # syncs, rotates, heals

    # once per turn of the reactor, before any reply of the turn leaves
    if keyspace.effects:
        try:
            journal.append(keyspace.effects)  # one record, one write
        except JournalFullError as error:
            ...  # writers of this turn get MISCONF; the record is kept and written later
        keyspace.effects.clear()  # the list is packed before append returns
        if service.must_commit:
            await service.commit()  # always: waits for fdatasync; everysec: hardly ever

    # before a write command runs: journal.readonly_reason is the text for MISCONF, or None

    journal.close()  # at the end, service.run cancelled: writes what is pending, syncs, unlocks

`DirectoryError` and `DamageError` are refusals to start: print the one line, exit 1.
`JournalFailedError` (from `append`, `commit` or `JournalService.run`) means that the device failed:
answer the waiting clients with an error and exit 74. A failed fsync is never repeated.

Choices, where more than one would do:

- every refusal to start is exit status 1 and one line, whatever its reason: a person reads the
  line, a supervisor only asks whether it is zero. A device that fails later is 74.
- a failed fsync stops the server under every policy. Going on read-only until everything has been
  written anew would be kinder, but what was promised before the failure may be gone already,
  and a restart is what shows it.
- a full disk is no such failure: the file is cut back, writes are refused, and it heals by itself.
- total CRC of a file is the CRC over its record headers, each of which holds the CRC of its body:
  it covers every byte, and costs the writer 24 bytes a record instead of all of them a second
  time.
- records of a base are counted from one, apart from the sequence numbers of history; which of
  those a base stands for is in its footer and in the manifest.
- the next segment is listed before it is used. So a switch is one small write in the server's
  task, and all that is slow (creating, syncing, listing) happens in a thread.

Rooms: `fs` the disk behind an interface; `directory` one server a directory; `record` the codec;
`segment` one file, read; `manifest` the list of files, `listing` that of an open journal; `replay`
all files, read; `recovery` the way in; `writer` the way out; `service` the sync policy, beside the
reactor; `base`, `partition`, `compaction`, `compactor` and `manager` keep it short; `check`,
`repair` and `backup` are for people.
"""
