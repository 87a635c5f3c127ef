"""The journal: every change that was acknowledged, on disk, in order.

How the server uses it::

    fs = RealFileSystem(data_dir, create=True)
    recovery = Recovery(fs)  # takes the LOCK, reads the manifest
    for done, total in recovery.replay(keyspace.apply_many):  # gives lists of effects
        await trio.lowlevel.checkpoint()  # every 8 ms, so that early clients get LOADING
    journal = recovery.open(fsync="everysec", segment_bytes=64 << 20)
    service = JournalService(journal)
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

Rooms: `fs` the disk behind an interface; `record` the codec; `segment` one file, read; `manifest`
the list of files; `recovery` the way in; `writer` the way out; `service` the task beside the
reactor.
"""
