"""What more than one benchmark asks of a peer."""

MAWK_BY_BLOCK = r"""
match($0, /blk_-?[0-9]+/) {
    b = substr($0, RSTART, RLENGTH); t = $1 " " $2
    n[b]++; if (!(b in f) || t < f[b]) f[b] = t; if (t > l[b]) l[b] = t; v[b, $4]++
}
END { c = 0; for (b in n) c++; print c }
"""
"""Count, first, last and levels of each HDFS block; prints how many blocks there are."""
