import json
from pathlib import Path

import pytest

from handler.job.pruner import Pruner
from handler.settings import PROJECT_DIR
from handler.workflow.prompt_edit import ModelNames
from handler.workflow.workflow import Workflow, parse_workflow

NAMES = ModelNames("unet", "clip", "vae", "lora")


def test_rules_that_were_proved_for_another_comfyui_are_off_and_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text()
    workflow = parse_workflow(json.loads(text))
    assert isinstance(workflow, Workflow)
    pruner = Pruner(tmp_path, NAMES)
    assert pruner.prune(workflow, [], wants_previews=False) == (workflow, ())
    pruner.prune(workflow, [], wants_previews=False)
    assert capsys.readouterr().out.count("another ComfyUI") == 1
