"""Writes the code that reads a line's time.

Lines that follow each other mostly have the same second, so a time's bytes are compared with those
of the last line first, together with the one byte behind them: what was read from the same bytes is
the same. A fraction, and a zone behind it, are read from every line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parser.kernel.errors import UnsupportedFormatError
from parser.kernel.writer import Writer

__all__ = ["TimeWriter"]

_DATE: Final = frozenset("Ymdjyb")
_LONG_MONTHS: Final = "B"
_MEMO_LIMIT: Final = 90
Steps = Sequence[str | bytes]


class TimeWriter:
    """Writes into a function that returns 0 where the time cannot be."""

    def __init__(self, out: Writer, memos: dict[object, int]) -> None:
        """Write to `out`; layouts that begin with the same time share its memory."""
        self.out = out
        self.memos = memos
        self._seen: set[str] = set()
        self._told = True

    def begin(self) -> None:
        """Begin a layout."""
        self.out("moment = NO_TIME")
        self._seen = set()
        self._told = True

    def fields(self, steps: Steps, *, memo: bool) -> None:
        """Read time fields that follow each other; all of the layout's when `memo`."""
        self.out("t_f = 0", "zoned = 0", "t_z = 0") if not self._seen else None
        if not memo:
            self._read(steps)
            self._told = False
            return
        cut = next((at for at, step in enumerate(steps) if step in {"f", "f?"}), len(steps))
        head, tail = steps[:cut], steps[cut:]
        named = {_name(step) for step in head if isinstance(step, str)}
        if any(_name(step) not in {"f", "z", ""} for step in tail) or (
            tail and ("z" in named or not named & {"Y", "s", "Q"})
        ):
            self._read(steps)
            self._told = False
            return
        self._remembered(tuple(head), tuple(tail))

    def _remembered(self, head: Steps, tail: Steps) -> None:
        out = self.out
        zone_behind = any(_name(step) == "z" for step in tail if isinstance(step, str))
        number = self.memos.setdefault((*head, "z" if zone_behind else ""), len(self.memos))
        out(f"memo = ld64(a + MEMO) + {number} * MEMO_BYTES", "n = ld64(memo)")
        with out.block("if n > 0 and same_bytes(text + p, memo + 16, n + 1):"):
            out("p += n", "moment = ld64(memo + 8)")
        with out.block("else:"):
            out("r = p", "zone = 1")
            self._read(head)
            self._moment(local=zone_behind)
            out("n = p - r")
            known = "zone != 3 and (zone != 0 or ld8(text + p) == 32)"
            with out.block(f"if n > 0 and n < {_MEMO_LIMIT} and {known}:"):
                out("st64(memo, n)", "st64(memo + 8, moment)")
                out("copy_bytes(memo + 16, text + r, n + 1)")
        if tail:
            self._read(tail)
            if zone_behind:
                with out.block("if moment != NO_TIME:"):
                    with out.block("if zoned == 0:"):
                        out("t_z = zone_offset(a, moment)")
                    out("moment = in_range(moment + t_f - t_z)")
            else:
                with out.block("if moment != NO_TIME:"):
                    out("moment = in_range(moment + t_f)")
        self._told = True

    def finish(self) -> None:
        """End a layout: tell the moment, if that was not yet done."""
        if not self._told:
            self._moment(local=False)

    # ------------------------------------------------------------------------------------ steps

    def _read(self, steps: Steps) -> None:
        for step in steps:
            if isinstance(step, bytes):
                self._literal(step)
            else:
                self._seen.add(_name(step))
                self._directive(step)

    def _literal(self, text: bytes) -> None:
        out = self.out
        for byte in text:
            out(f"if ld8(text + p) != {byte}:", "    return 0", "p += 1")
            if byte == 32:
                with out.block("while ld8(text + p) == 32:"):
                    out("p += 1")

    def _digits(self, name: str, count: int) -> None:
        self.out(
            f"if digits_run(text + p, {count - 1}) < {count}:",
            "    return 0",
            f"t_{name} = number(text + p, {count})",
            f"p += {count}",
        )

    def _directive(self, step: str) -> None:
        out = self.out
        match step:
            case "Y":
                self._digits("Y", 4)
            case "y":
                self._digits("Y", 2)
                out("t_Y += 1900 if t_Y >= 69 else 2000")
            case "j":
                self._digits("j", 3)
            case "m" | "d" | "H" | "I" | "M" | "S":
                out("t = two_digits(text + p)", "if t == 0:", "    return 0")
                out(f"t_{step} = t >> 2", "p += t & 3")
            case "b":
                out("t_m = month_named(text + p)", "if t_m == 0:", "    return 0", "p += 3")
            case "a":
                out("t = p", "p = skip_letters(text, p)", "if p == t:", "    return 0")
            case "p":
                out("t = (ld8(text + p) | 32) + 256 * (ld8(text + p + 1) | 32)")
                out("if t != 0x6d61 and t != 0x6d70:", "    return 0")
                out("t_p = 1 if t == 0x6d70 else 0", "p += 2")
            case "f":
                out("t = digits_run(text + p, 9)", "if t < 1 or t > 9:", "    return 0")
                out("t_f = milliseconds(text + p, t)", "p += t")
            case "f?":
                with out.block("if ld8(text + p) == 46 or ld8(text + p) == 44:"):
                    out("t = digits_run(text + p + 1, 9)")
                    with out.block("if t >= 1 and t <= 9:"):
                        out("t_f = milliseconds(text + p + 1, t)", "p += t + 1")
            case "z" | "z?":
                out("zone = zone_size(text + p)")
                if step == "z":
                    out("if zone == 0:", "    return 0")
                with out.block("if zone > 0:"):
                    out("t_z = zone_value(text + p, zone)", "zoned = 1", "p += zone")
                    out("if t_z >= 86400000:", "    return 0")
            case "Z":
                out("t = p", "p = skip_letters(text, p)", "if p == t:", "    return 0")
                out("if is_utc(text + t, p - t):", "    zoned = 1", "    t_z = 0")
            case "s" | "Q":
                most = 12 if step == "s" else 15
                out(f"t = digits_run(text + p, {most})", f"if t < 1 or t > {most}:", "    return 0")
                out(f"t_{step} = number(text + p, t)", "p += t")
            case "T?":
                out("if ld8(text + p) != 84 and ld8(text + p) != 32:", "    return 0", "p += 1")
            case other:
                raise UnsupportedFormatError(f"no %{other} in compiled code")

    def _moment(self, *, local: bool) -> None:
        """Tell the moment from the parts; without a fraction and zone that are still to come."""
        out, seen = self.out, self._seen
        if "Q" in seen:
            out("moment = t_Q")
            return
        if "s" in seen:
            out("moment = t_s * 1000 + t_f")
            return
        if "I" in seen:
            out("if t_I < 1 or t_I > 12:", "    return 0")
            out("t_H = t_I % 12" + (" + 12 * t_p" if "p" in seen else ""))
        hour = "t_H" if seen & {"H", "I"} else "0"
        minute = "t_M" if "M" in seen else "0"
        second = "t_S" if "S" in seen else "0"
        out(f"if {hour} > 23 or {minute} > 59 or {second} > 60:", "    return 0")
        out(f"t = ({hour} * 3600 + {minute} * 60 + {second}) * 1000 + t_f")
        if "j" in seen and "Y" in seen:
            out("if t_j < 1 or t_j > 366 or t_Y < 1:", "    return 0")
            out("moment = days(t_Y, 1, t_j) * 86400000 + t")
        elif "j" in seen or not {"m", "d"} <= seen:
            return
        elif "Y" in seen:
            out("if t_Y < 1 or not is_day(t_Y, t_m, t_d):", "    return 0")
            out("moment = days(t_Y, t_m, t_d) * 86400000 + t")
        else:
            out("if not is_day(0, t_m, t_d):", "    return 0")
            out("moment = yearless(a, t_m, t_d, t, zoned, t_z)")
            return
        if not local:
            out("moment = in_range(moment - (t_z if zoned else zone_offset(a, moment)))")


def _name(step: str | bytes) -> str:
    """The part of a time that a step tells; "" for a literal."""
    if isinstance(step, bytes):
        return ""
    return {"y": "Y", "b": "m", "f?": "f", "z?": "z", "Z": "z", "T?": ""}.get(step, step)
