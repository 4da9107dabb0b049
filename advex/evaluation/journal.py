"""What a black box has answered already, beside the run file: a run that was stopped asks nothing
twice.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np

from advex import _backend
from advex._arrays import Array
from advex.model.blackbox import BlackBox

EVERY = 1.0  # seconds of answers that a power cut may cost
SUFFIX = ".answers"


class Journal:
    """The answers of a black box to the questions of the block that is at work, by the questions.
    All else in a run follows from them, so that the same questions are asked again.

    Args:
        path: of the run file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + SUFFIX)
        # The loop may be in another thread than the one that opened the file.
        self._database = sqlite3.connect(self.path, check_same_thread=False)
        with self._database:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answers (question BLOB PRIMARY KEY, answer BLOB)"
            )
        self._kept = time.monotonic()

    def through(self, box: Any) -> BlackBox:
        """The black box, asked only what was not asked before."""
        predict = box.predict

        @functools.wraps(predict, updated=())
        def asked(x: Array) -> Any:
            question = _digest(x)
            known = self._database.execute(
                "SELECT answer FROM answers WHERE question = ?", (question,)
            ).fetchone()
            if known is not None:
                return np.load(io.BytesIO(known[0]), allow_pickle=False)
            try:
                answer = predict(x)
            except BaseException:
                self.keep()
                raise
            self._write(question, answer)
            return answer

        return box.through(asked)

    def keep(self) -> None:
        """Make what was answered safe."""
        self._database.commit()
        self._kept = time.monotonic()

    def clear(self) -> None:
        """Forget the answers: what follows from them is in the run file."""
        self._database.execute("DELETE FROM answers")
        self.keep()

    def close(self, finished: bool) -> None:
        """Close the file; of a finished run it is removed."""
        self.keep()
        self._database.close()
        if finished:
            self.path.unlink(missing_ok=True)

    def _write(self, question: bytes, answer: Any) -> None:
        values = np.asarray(answer if isinstance(answer, list) else _backend.to_numpy(answer))
        if values.dtype == object:  # what an error will be about
            return
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        with contextlib.suppress(sqlite3.IntegrityError):
            self._database.execute(
                "INSERT INTO answers VALUES (?, ?)", (question, buffer.getvalue())
            )
        if time.monotonic() - self._kept > EVERY:
            self.keep()


def _digest(x: Array) -> bytes:
    told = f"{x.dtype} {x.shape}".encode()
    return hashlib.blake2b(told + np.ascontiguousarray(x).tobytes(), digest_size=16).digest()
