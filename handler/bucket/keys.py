"""Keys of stored objects: made by a template, safe, and told apart."""

import hashlib
import re
from string import Formatter

# R2 documents 1024 bytes.
MAX_KEY_BYTES = 1024

DEFAULT_KEY_TEMPLATE = "{request_id}/{name}.{ext}"
KEY_FIELDS = ("job_id", "request_id", "name", "ext")

_TEMPLATE_LITERAL = re.compile(r"[A-Za-z0-9_./-]*")

# A dot or slash is safe only between two characters that are neither: so no value brings "..", an
# empty segment, or a leading or trailing dot or slash, whatever the template puts beside it.
_UNSAFE = re.compile(r"(?<![^./])\.|\.(?![^./])|[^A-Za-z0-9_.-]")
_UNSAFE_IN_NAME = re.compile(r"(?<![^./])[./]|[./](?![^./])|[^A-Za-z0-9_./-]")


def check_key_template(template: str) -> None:
    """Raise ValueError unless keys made from `template` are safe and tell pictures apart."""
    parts = _template_parts(template)
    fields = {name for _, name in parts if name}
    if "name" not in fields or not fields & {"job_id", "request_id"}:
        raise _bad_template(
            template, "it needs {name} and one of {request_id} or {job_id}, or pictures collide"
        )
    for literal, _ in parts:
        if not _TEMPLATE_LITERAL.fullmatch(literal):
            raise _bad_template(
                template, "outside the fields it may hold only letters, digits and _ - . /"
            )
    # A value never starts or ends with a dot or slash, so a plain one shows every key's segments.
    sample = "".join(literal + ("x" if name else "") for literal, name in parts)
    if ".." in sample or {"", "."} & set(sample.split("/")):
        raise _bad_template(
            template, "it must not start or end with '/', nor hold '//', '..' or '.' as a folder"
        )


def object_key(template: str, *, job_id: str, request_id: str, name: str, ext: str) -> str:
    """The key of one picture: ASCII, at most 1024 bytes, no "..", no empty or "." segment.

    What is unsafe in a value is written as "=" and two hex digits a UTF-8 byte, as in
    quoted-printable ("a b" is "a=20b", nothing is "="), so different names never share a key. "%"
    would do that too, but a key with a literal "%" is decoded once too often by one proxy or
    another. "/" makes a folder in `name` only. Too long a key ends in a digest of the whole.

    `template` is one that `check_key_template` takes.
    """
    values = {
        "job_id": _escaped(job_id, _UNSAFE),
        "request_id": _escaped(request_id, _UNSAFE),
        "name": _escaped(name, _UNSAFE_IN_NAME),
        "ext": _escaped(ext, _UNSAFE),
    }
    key = "".join(
        literal + (values[name] if name else "") for literal, name in _template_parts(template)
    )
    if len(key) <= MAX_KEY_BYTES:
        return key
    # "=x" is no escape, so a cut key never equals a whole one.
    mark = "=x" + hashlib.sha256(key.encode("ascii")).hexdigest()
    return key[: MAX_KEY_BYTES - len(mark)] + mark


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    parts = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if name is not None and name not in KEY_FIELDS:
                known = ", ".join(f"{{{known}}}" for known in KEY_FIELDS)
                raise _bad_template(template, f"{{{name}}} is no field of it; known are {known}")
            if spec or conversion:
                # "{name:.3}" would cut names, and cut names collide.
                raise _bad_template(template, f"{{{name}}} takes no format")
            parts.append((literal, name))
    except ValueError as exc:
        raise _bad_template(template, str(exc)) from exc
    return parts


def _bad_template(template: str, fault: str) -> ValueError:
    return ValueError(f"the bucket's key template {template!r} is wrong: {fault}")


def _escaped(value: str, unsafe: re.Pattern[str]) -> str:
    def escape(match: re.Match[str]) -> str:
        # JSON can bring lone surrogates, which strict UTF-8 refuses.
        return "".join(f"={byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))

    return unsafe.sub(escape, value) if value else "="
