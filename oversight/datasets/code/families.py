"""Functions that generated programs are made of, each with a spot at which it has a twin.

A twin does something else on some inputs: «this|that» in a text is what the two have in that place.
Neither is the right one: which of them a program has is drawn.
"""

from __future__ import annotations

from oversight.datasets.code.writing import CodeFamily, ValueKind


def offered(difficulty: int, *, raises: bool) -> list[CodeFamily]:
    """The families of a difficulty, those with an exception or those without."""
    return [f for f in FAMILIES if f.least <= difficulty and f.raises == raises]


FAMILIES: tuple[CodeFamily, ...] = (
    CodeFamily(
        "loop_start",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $i in range(«0|1», len($a)):
        $r += $a[$i]
    return $r
""",
    ),
    CodeFamily(
        "loop_end",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    for $i in range(len($a)« - 1|»):
        $r.append($a[$i] * $k)
    return $r
""",
    ),
    CodeFamily(
        "comparison",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $x in $a:
        if $x «>|>=» $k:
            $r += 1
    return $r
""",
    ),
    CodeFamily(
        "slices",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = $a«[$k:]|[-$k:]»
    return $r + $a[:1]
""",
    ),
    CodeFamily(
        "letters",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $r = []
    for $x in $a:
        $r.append($x«[1:]|[:-1]»)
    return $r
""",
    ),
    CodeFamily(
        "letter_counts",
        ValueKind.WORDS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    for $x in $a:
        $r.append($x.count($x[«0|-1»:][:1]) + len($x))
    return $r
""",
    ),
    CodeFamily(
        "division",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $x in $a:
        $r += $x «//|%» $k
    return $r
""",
    ),
    CodeFamily(
        "running_sums",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    $s = 0
    for $x in $a:
        $s += $x
        $r.append($s« - $x|»)
    return $r
""",
    ),
    CodeFamily(
        "negative_division",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    for $x in $a:
        $r.append(«-$x // $k|-($x // $k)»)
    return $r
""",
        least=2,
    ),
    CodeFamily(
        "counts",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $s = {}
    for $x in $a:
        $s[$x % $k] = $s.get($x % $k, «0|1») + 1
    $r = 0
    for $y in $s:
        $r += $y * $s[$y]
    return $r
""",
        least=2,
    ),
    CodeFamily(
        "first_or_last",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $s = {}
    for $x in $a:
        «$s[len($x)] = $x|$s.setdefault(len($x), $x)»
    return list($s.values())
""",
        least=2,
    ),
    CodeFamily(
        "break_or_continue",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $x in $a:
        if $x % $k == 0:
            «break|continue»
        $r += $x
    return $r
""",
        least=2,
    ),
    CodeFamily(
        "while_step",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    $i = 0
    while $i < len($a):
        $r.append($a[$i] + $i)
        $i += «1|2»
    return $r
""",
        least=2,
    ),
    CodeFamily(
        "sorting",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $r = sorted($a, key=lambda $x: («len($x), $x|$x, len($x)»))
    return $r[:-1]
""",
        least=2,
    ),
    CodeFamily(
        "aliasing",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = «$a|$a[:]»
    $r.append($k)
    return $a + $r
""",
        least=3,
    ),
    CodeFamily(
        "recursion_end",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    if len($a) <= «0|1»:
        return $k
    return $a[0] - $f($a[1:])
""",
        least=3,
    ),
    CodeFamily(
        "recursion_order",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    if not $a:
        return []
    return «[$a[0] + $k] + $f($a[1:])|$f($a[1:]) + [$a[0] + $k]»
""",
        least=3,
    ),
    CodeFamily(
        "nested_loops",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $i in range(len($a)):
        for $x in $a[$i« + 1|»:]:
            if ($a[$i] + $x) % $k == 0:
                $r += 1
    return $r
""",
        least=3,
    ),
    CodeFamily(
        "groups",
        ValueKind.WORDS,
        ValueKind.INTS,
        """
def $f($a):
    $s = {}
    for $x in $a:
        $s.setdefault($x[«:1|-1:»], []).append(len($x))
    return [sum($r) for $r in $s.values()]
""",
        least=3,
    ),
    CodeFamily(
        "removal_while_looping",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    for $x in «$a|$a[:]»:
        if $x > $k:
            $a.remove($x)
    return $a + [len($a)]
""",
        least=4,
    ),
    CodeFamily(
        "shared_default",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    def $g($x, $s=«[]|None»):
        if $s is None:
            $s = []
        $s.append($x)
        return sum($s)
    return [$g($x) for $x in $a]
""",
        least=4,
    ),
    CodeFamily(
        "late_binding",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = []
    for $x in $a:
        $r.append(lambda $y=«$k|$x»: $x * $y)
    return [$s() for $s in $r]
""",
        least=4,
    ),
    CodeFamily(
        "shared_rows",
        ValueKind.INTS,
        ValueKind.INTS,
        """
def $f($a):
    $r = «[[0, 0]] * len($a)|[[0, 0] for $x in $a]»
    for $i in range(len($a)):
        $r[$i][$i % 2] += $a[$i]
    return [$s[0] - $s[1] for $s in $r]
""",
        least=4,
    ),
    CodeFamily(
        "spent_iterator",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $s = «iter($a)|list($a)»
    $r = 0
    for $x in $s:
        if $x > $k:
            break
        $r += $x
    return $r * 10 + sum($s)
""",
        least=4,
    ),
    CodeFamily(
        "index_past_the_end",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $i in range(len($a)« - 1|»):
        $r += $a[$i] * $a[$i + 1]
    return $r
""",
        raises=True,
    ),
    CodeFamily(
        "empty_pop",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    while len($a) «>|>=» $k % 2:
        $r += $a.pop()
    return $r
""",
        raises=True,
    ),
    CodeFamily(
        "text_and_number",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $r = []
    for $x in $a:
        $r.append($x + «str(len($x))|len($x)»)
    return $r
""",
        raises=True,
    ),
    CodeFamily(
        "unpacking",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $x, $y = $a[:«2|3»]
    return $x * $k - $y
""",
        raises=True,
    ),
    CodeFamily(
        "missing_key",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $s = {}
    for $x in $a:
        $s[$x % 6] = $x
    return «$s[$k]|$s.get($k, 0)» + len($s)
""",
        least=2,
        raises=True,
    ),
    CodeFamily(
        "division_by_zero",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = 0
    for $x in $a:
        $r += 60 // ($x «-|+» $k)
    return $r
""",
        least=2,
        raises=True,
    ),
    CodeFamily(
        "missing_member",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    return $a.index(max($a) - min($a) «+|-» $k)
""",
        least=2,
        raises=True,
    ),
    CodeFamily(
        "fixed_tuple",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $r = «list|tuple»($a)
    $r[-1] = $r[0] + $r[-1]
    return list($r)
""",
        least=3,
        raises=True,
    ),
    CodeFamily(
        "sorted_in_place",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $r = «sorted($a)|$a.sort()»
    return $r[0] * $k + $a[0]
""",
        least=3,
        raises=True,
    ),
    CodeFamily(
        "endless_recursion",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    def $g($x):
        if $x == «0|1»:
            return $k
        return $g($x - 2) + 1
    return $g(len($a))
""",
        least=3,
        raises=True,
    ),
    CodeFamily(
        "changed_while_looping",
        ValueKind.INTS,
        ValueKind.INT,
        """
def $f($a):
    $s = {$x: $x % $k for $x in $a}
    for $y in «$s|list($s)»:
        if $s[$y] == 1:
            del $s[$y]
    return len($s)
""",
        least=4,
        raises=True,
    ),
    CodeFamily(
        "spent_next",
        ValueKind.WORDS,
        ValueKind.WORDS,
        """
def $f($a):
    $s = («$x|$x + $x[:1]» for $x in $a if len($x) > $k)
    $r = [next($s)]
    while len($r) < 2:
        $r.append(next($s, "none"))
    return $r + [max($r, key=len)[$k + 1]]
""",
        least=5,
        raises=True,
    ),
)
"""All families: those without an exception first, each part from the easiest on."""
