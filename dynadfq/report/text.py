"""Numbers as a reader sees them."""

import math

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EM DASH}"


def count(value: int | None) -> str:
    """Format a count in groups of three digits, and a dash for None.

    >>> count(12345), count(None)
    ('12,345', '—')
    """
    return MISSING if value is None else f"{value:,}"


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """Format a number with a true minus sign, and a dash for None or NaN.

    With ``sign`` a positive number has one too, unless it rounds to zero.

    >>> number(-0.5), number(None), number(0.5, sign=True), number(-0.001)
    ('−0.50', '—', '+0.50', '0.00')
    """
    if value is None or math.isnan(value):
        return MISSING
    rounded = round(value, digits) + 0.0  # without the sign of a negative zero
    form = f"+.{digits}f" if sign and rounded else f".{digits}f"
    return format(rounded, form).replace("-", MINUS)


def p_value(p: float) -> str:
    """Format a p-value with no more digits than it deserves.

    >>> p_value(0.0001), p_value(0.234)
    ('< 0.001', '0.23')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def shorten(name: str, length: int) -> str:
    """Cut a name to `length` characters, with an ellipsis where something is missing.

    >>> shorten("golden retriever", 10)
    'golden re…'
    """
    return name if len(name) <= length else name[: length - 1] + "…"


def short_names(names: list[str], length: int = 24) -> list[str]:
    """Shorten dotted names of sites: common ends are left out, long ones lose their middle.

    >>> short_names(["features.stage1.conv1.activ", "features.stage2.activ"])
    ['stage1.conv1', 'stage2']
    """
    parts = [name.split(".") for name in names]
    for end in (0, -1):
        while len(parts) > 1 and all(len(p) > 1 and p[end] == parts[0][end] for p in parts):
            parts = [p[1:] if end == 0 else p[:-1] for p in parts]
    kept = [".".join(p) for p in parts]
    half = length // 2
    return [
        name if len(name) <= length else f"{name[:half]}…{name[half + 1 - length :]}"
        for name in kept
    ]
