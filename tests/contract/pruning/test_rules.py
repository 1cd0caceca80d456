"""The rules of pruning against the code of the vendored ComfyUI that makes them true."""

import pytest

from handler.comfy.source_code import SourceCode
from handler.pruning.rules import RULES, Rule
from handler.settings import PROJECT_DIR


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_was_proved_for_this_code(rule: Rule) -> None:
    digest = SourceCode(PROJECT_DIR / "comfy" / "ComfyUI").digest(rule.code)
    assert digest == rule.sha256, "read what changed in `code`; the rule is off until then"
