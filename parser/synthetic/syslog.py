"""The syslog of four machines that the Internet knocks at."""

from __future__ import annotations

from random import Random
from typing import Final

from parser.synthetic.seconds import MONTHS, Seconds, batches, weighted

__all__ = ["system_log"]

_SYSLOG: Final = b"""\
20 sshd[%(pid)d]: Failed password for invalid user %(user)b from %(ip)b port %(port)d ssh2
14 sshd[%(pid)d]: Failed password for root from %(ip)b port %(port)d ssh2
10 sshd[%(pid)d]: Invalid user %(user)b from %(ip)b
10 sshd[%(pid)d]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh \
ruser= rhost=%(ip)b
9 sshd[%(pid)d]: Received disconnect from %(ip)b: 11: Bye Bye [preauth]
5 sshd[%(pid)d]: Accepted publickey for deploy from %(ip)b port %(port)d ssh2
5 sshd[%(pid)d]: pam_unix(sshd:session): session opened for user deploy by (uid=0)
12 CRON[%(pid)d]: (root) CMD (cd / && run-parts --report /etc/cron.hourly)
6 systemd[1]: Started Session %(port)d of user deploy.
3 kernel: [%(port)d.%(pid)06d] Out of memory: Kill process %(pid)d (java) score 871 or \
sacrifice child
4 kernel: [%(port)d.%(pid)06d] TCP: request_sock_TCP: Possible SYN flooding on port 443. \
Sending cookies.
2 ntpd[812]: synchronized to %(ip)b, stratum 2
"""
"""How often, of a hundred, and what."""

_USERS: Final = [b"admin", b"test", b"oracle", b"webmaster", b"guest", b"pi", b"ubuntu", b"git"]


def system_log(random: Random) -> Seconds:
    """Return the log of machines, 6 lines a second."""
    draw, bits = random.random, random.getrandbits
    addresses = [b"%d.%d.%d.%d" % (bits(7) + 60, bits(8), bits(8), bits(8)) for _ in range(1500)]
    said = [line.split(b" ", 1) for line in _SYSLOG.splitlines()]
    pick = weighted(random, [float(weight) for weight, _ in said])
    for now, batch in batches(random, per_s=6):
        stamp = f"{MONTHS[now.month - 1]} {now.day:2d} {now:%H:%M:%S} ".encode()
        told = []
        for _ in range(batch):
            number = bits(30)
            text = said[pick()][1] % {
                b"pid": 1000 + (number & 32767),
                b"user": _USERS[number >> 15 & 7],
                b"ip": addresses[int(draw() ** 2 * 1500)],
                b"port": 1024 + (number >> 10) % 60000,
            }
            told.append(b"%bnode-%d %b" % (stamp, 1 + (number >> 18 & 3), text))
        yield told
