"""A person's choices and words to the English instruction that Qwen Image Edit is sent. Pure.

What can be chosen is data: categories.toml; what is written around it, and warned of:
sentences.toml.
"""

from gateway.errors import InvalidOptions
from gateway.prompt.compiler import attribute_labels, compile_prompt, sees_whole_photo
from gateway.prompt.listing import options

__all__ = ["InvalidOptions", "attribute_labels", "compile_prompt", "options", "sees_whole_photo"]
