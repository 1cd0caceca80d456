import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.bucket.keys import (
    DEFAULT_KEY_TEMPLATE,
    MAX_KEY_BYTES,
    check_key_template,
    object_key,
)

# The characters that matter to a key, often; everything else, lone surrogates too, sometimes.
VALUES = st.one_of(
    st.text(alphabet="ab./\\=~% \n\0é\ud800AF0", max_size=12),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=40),
    st.text(alphabet="a/.é", min_size=300, max_size=500),
)
TEMPLATES = st.sampled_from(
    [
        DEFAULT_KEY_TEMPLATE,
        "{name}/{job_id}",
        "out/{job_id}.{name}",
        "{ext}/{request_id}{name}",
        "p-{request_id}/a.b/{name}.{name}_{job_id}.{ext}",
    ]
)


def key_of(template: str = DEFAULT_KEY_TEMPLATE, **values: str) -> str:
    return object_key(
        template, **{"job_id": "j1", "request_id": "r1", "name": "cat", "ext": "png", **values}
    )


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "r1/cat.png"),
        ({"name": "ComfyUI_00001_"}, "r1/ComfyUI_00001_.png"),
        ({"name": "set/a/cat.v2"}, "r1/set/a/cat.v2.png"),
        ({"name": "a cat"}, "r1/a=20cat.png"),
        ({"name": "Kätzchen"}, "r1/K=C3=A4tzchen.png"),
        ({"name": "a=20cat"}, "r1/a=3D20cat.png"),
        ({"name": "../../etc/passwd"}, "r1/=2E=2E=2F=2E=2E=2Fetc/passwd.png"),
        ({"name": "/rooted"}, "r1/=2Frooted.png"),
        ({"name": "a//b"}, "r1/a=2F=2Fb.png"),
        ({"name": "end."}, "r1/end=2E.png"),
        ({"name": "line\nbreak\0"}, "r1/line=0Abreak=00.png"),
        ({"name": ""}, "r1/=.png"),
        ({"request_id": "a/b"}, "a=2Fb/cat.png"),
        ({"request_id": ".."}, "=2E=2E/cat.png"),
        ({"request_id": ""}, "=/cat.png"),
    ],
)
def test_keys_are_what_the_rule_says(values: dict[str, str], key: str) -> None:
    assert key_of(**values) == key


@settings(deadline=None)  # a busy machine is no fault
@given(template=TEMPLATES, job_id=VALUES, request_id=VALUES, name=VALUES, ext=VALUES)
def test_any_values_give_a_safe_key(template: str, **values: str) -> None:
    key = object_key(template, **values)
    assert re.fullmatch(r"[A-Za-z0-9_./=-]+", key)
    assert len(key.encode()) <= MAX_KEY_BYTES
    assert ".." not in key
    assert not {"", "."} & set(key.split("/"))


@settings(deadline=None)  # a busy machine is no fault
@given(template=TEMPLATES, first=VALUES, second=VALUES)
def test_two_names_share_a_key_only_when_they_are_the_same(
    template: str, first: str, second: str
) -> None:
    assert (key_of(template, name=first) == key_of(template, name=second)) == (first == second)


@settings(deadline=None)  # a busy machine is no fault
@given(first=st.tuples(VALUES, VALUES), second=st.tuples(VALUES, VALUES))
def test_two_requests_never_meet_under_the_default_template(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    keys = [key_of(request_id=request_id, name=name) for request_id, name in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


def test_names_that_differ_only_past_the_limit_keep_two_keys() -> None:
    keys = {key_of(name="x" * 2000 + tail) for tail in ("a", "b")}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {MAX_KEY_BYTES}
    assert all(key.startswith("r1/xxx") for key in keys)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{request_id}/{file}", "{file} is no field"),
        ("{request_id}/{name.__class__}", "is no field"),
        ("{request_id}/{0}", "{0} is no field"),
        ("{request_id}/{}", "{} is no field"),
        ("{request_id}/{name:.3}", "takes no format"),
        ("{request_id}/{name!r}", "takes no format"),
        ("{request_id}/{name", "expected '}'"),
        ("{request_id}/name}", "Single '}'"),
        ("{request_id}/picture.{ext}", "needs {name}"),
        ("{name}.{ext}", "one of {request_id} or {job_id}"),
        ("", "needs {name}"),
        ("/{request_id}/{name}", "start or end with '/'"),
        ("{request_id}/{name}/", "start or end with '/'"),
        ("{request_id}//{name}", "'//'"),
        ("{request_id}/../{name}", "'..'"),
        ("./{request_id}/{name}", "'.'"),
        ("{request_id}/{name} {ext}", "only letters"),
        ("{request_id}/{{name}}/{name}", "only letters"),
        ("ä/{request_id}/{name}", "only letters"),
    ],
)
def test_a_bad_template_is_refused(template: str, fault: str) -> None:
    with pytest.raises(ValueError, match="is wrong") as caught:
        check_key_template(template)
    assert fault in str(caught.value)


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="{}:!./[]name_rqustijobdx", max_size=40))
def test_any_template_is_refused_or_makes_keys(template: str) -> None:
    try:
        check_key_template(template)
    except ValueError:
        return
    assert key_of(template)
