"""A node that loads a file of weights as ComfyUI's loaders do, and makes a picture of it."""

import comfy.utils


class LoadWeights:
    CATEGORY = "benchmarks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""})}}

    def run(self, path):
        # The copy stands for the one to the GPU: it touches every page of the memory map.
        weights = {
            name: tensor.clone() for name, tensor in comfy.utils.load_torch_file(path).items()
        }
        shade = next(iter(weights.values()))[:3].float() / 255
        return (shade.expand(1, 16, 16, 3).contiguous(),)


NODE_CLASS_MAPPINGS = {"LoadWeights": LoadWeights}
