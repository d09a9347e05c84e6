#!/usr/bin/python3
"""A client that commits numbered rows to a SQLite database, and the judgement of what it left.

Before each commit it notes in a file which row will be the last, and after it that it is: "begin N"
and "done N". The file must lie where the failures of the test cannot reach. As a program (the test
starts it, to have somebody to kill) it runs until SIGTERM, which it obeys between two transactions.

    sqlite_load.py DATABASE JOURNAL_MODE NOTES
"""

import contextlib
import copy
import hashlib
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).parents[1])]
from harness import expect  # noqa: E402

# Not "delete": at synchronous=FULL nobody syncs the directory from which the journal of the last
# transaction was deleted, so by SQLite's own rules a loss of power may bring it back, and with it
# take the transaction back. The file that is truncated is synced.
JOURNAL_MODES = ("wal", "truncate")
ROWS_MAX = 8  # of a transaction


def body_of(number):
    """Of 0 to 1023 bytes, which only this row has."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return (digest * 32)[: int.from_bytes(digest[:2], "big") % 1024]


def opened(path):
    # It waits for others, for ever as far as a test is concerned.
    return contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60))


def last_row(database):
    return database.execute("SELECT coalesce(max(number), 0) FROM rows").fetchone()[0]


def write(path, journal_mode, notes):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with opened(path) as database, open(notes, "ab", buffering=0) as noted:
        (mode,) = database.execute(f"PRAGMA journal_mode={journal_mode}").fetchone()
        expect(mode == journal_mode, f"the journal mode is {mode}")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA wal_autocheckpoint=100")
        # The index has pages all over the tree changed in each transaction.
        database.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, body BLOB)")
        database.execute("CREATE INDEX IF NOT EXISTS bodies ON rows (body)")
        last = last_row(database)
        while not stop:
            first, last = last + 1, last + random.randint(1, ROWS_MAX)
            database.execute("BEGIN IMMEDIATE")
            for number in range(first, last + 1):
                database.execute("INSERT INTO rows VALUES (?, ?)", (number, body_of(number)))
            noted.write(f"begin {last}\n".encode())
            database.execute("COMMIT")
            noted.write(f"done {last}\n".encode())


def _noted(notes, word):
    lines = notes.read_text(encoding="ascii").splitlines() if notes.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


class Load:
    """One database with its notes, and the process that writes to it, on whatever mount it is."""

    def __init__(self, workspace, journal_mode):
        self.journal_mode = journal_mode
        self.notes = workspace / f"{journal_mode}.notes"
        self.log = workspace / f"{journal_mode}.log"
        self.process = None

    def start(self, folder):
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.database(folder), self.journal_mode, self.notes],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )

    def database(self, folder):
        return folder / f"{self.journal_mode}.db"

    def done(self):
        """The transactions that were answered."""
        return len(_noted(self.notes, "done"))

    def expect_running(self):
        expect(self.process.poll() is None, f"the writer has ended: {self.tail()}")

    def end(self):
        """It must not have met an error."""
        self.process.terminate()
        status = self.process.wait(60)
        expect(status == 0, f"writer of {self.journal_mode}: exit status {status}: {self.tail()}")

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def abandon(self):
        """The writer, which hangs on a node that is lost, is somebody else's from now on. It goes
        on with notes of its own, and whoever writes next with a copy of them."""
        left = copy.copy(self)
        left.notes = self.notes.rename(self.notes.with_suffix(".lost"))
        shutil.copyfile(left.notes, self.notes)
        self.process = None
        return left

    def expect_failed(self, last):
        """The writer met an error, and nothing beyond this row was ever committed by it."""
        status = self.process.wait(60)
        expect(status != 0, f"the writer of {self.journal_mode} ended well: {self.tail()}")
        # Not the same as before it was abandoned: the answer to a commit that was complete may
        # still have been to come, since an automatic checkpoint belongs to it.
        done = _noted(self.notes, "done")
        expect(done[-1] <= last, f"{self.journal_mode}: committed up to {done[-1]}, not {last}")

    def tail(self):
        return self.log.read_text(errors="replace")[-500:]

    def judge(self, folder):
        """The database is whole, and has every row that was committed; nobody writes meanwhile.
        The last row is returned."""
        path = self.database(folder)
        self._forget_cached(path)
        with opened(path) as database:
            problems = database.execute("PRAGMA integrity_check").fetchall()
            expect(problems == [("ok",)], f"{path}: integrity_check: {problems[:5]}")
            last = last_row(database)
            rows = database.execute("SELECT number, body FROM rows ORDER BY number").fetchall()
        done, begun = _noted(self.notes, "done"), _noted(self.notes, "begin")
        answered = done[-1] if done else 0
        expect(last >= answered, f"{path}: rows {last + 1} to {answered} were committed: gone")
        # A transaction that was under way is there or not, but not in part.
        expect(last in (answered, begun[-1] if begun else 0), f"{path}: row {last} is in mid-air")
        expect(len(rows) == last, f"{path}: {len(rows)} rows where there should be {last}")
        for number, body in rows:
            expect(body == body_of(number), f"{path}: row {number} has other bytes")
        return last

    @staticmethod
    def _forget_cached(path):
        """So that the volume is read, and not the kernel's memory of it."""
        for name in pathlib.Path(path).parent.glob(f"{path.name}*"):
            if name.name.endswith("-shm"):
                continue
            fd = os.open(name, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], sys.argv[3])
