"""Nodes that save as widely used packages do, for the integration tests only."""

from fractions import Fraction
from pathlib import Path

import av
import folder_paths
import torch
from comfy_api.latest import Types, io, ui


class CombineVideo:
    """Saves an MP4 and shows it under `gifs`. It chooses its own place and a fixed name."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE",),
                "save_output": ("BOOLEAN", {"default": True}),
                "quality": ("INT", {"default": 23, "min": 0, "max": 51}),
            }
        }

    def run(self, images, save_output, quality):
        folder_type = "output" if save_output else "temp"
        path = Path(folder_paths.get_directory_by_type(folder_type), "result.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(8))
            stream.height, stream.width = images.shape[1:3]
            stream.pix_fmt = "yuv444p"
            stream.options = {"crf": str(quality)}
            for image in images:
                pixels = (image.clamp(0, 1) * 255).to(torch.uint8).numpy()
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        clip = {
            "filename": "result.mp4", "subfolder": "", "type": folder_type,
            "format": "video/h264-mp4", "frame_rate": 8.0, "workflow": "result.png",
            "fullpath": str(path),
        }  # fmt: skip
        return {"ui": {"gifs": [clip]}}


class SaveTone:
    """Half a second of a tone, with ComfyUI's own code; its audio nodes need torchaudio."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "format": (["flac", "mp3", "opus"],),
                "filename_prefix": ("STRING", {"default": "audio/ComfyUI"}),
            }
        }

    def run(self, format, filename_prefix):
        tone = torch.sin(torch.arange(24_000) * 0.06).reshape(1, 1, -1)
        saved = ui.AudioSaveHelper.save_audio(
            {"waveform": tone, "sample_rate": 48_000},
            filename_prefix, io.FolderType.output, None, format=format,
        )  # fmt: skip
        return {"ui": {"audio": saved}}


class CubeVoxel:
    """A cube, for VoxelToMesh."""

    CATEGORY = "tests"
    RETURN_TYPES = ("VOXEL",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"size": ("INT", {"default": 4, "min": 1, "max": 32})}}

    def run(self, size):
        data = torch.zeros(1, size + 4, size + 4, size + 4)
        data[:, 2:-2, 2:-2, 2:-2] = 1.0
        return (Types.VOXEL(data),)


class ExportMesh:
    """Saves an OBJ and only tells its path, as exporters do whose mesh Preview3D then shows."""

    CATEGORY = "tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mesh": ("MESH",), "filename_prefix": ("STRING", {})}}

    def run(self, mesh, filename_prefix):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        filename = f"{name}_{counter:05}_.obj"
        with Path(folder, filename).open("w") as file:
            for x, y, z in mesh.vertices[0].tolist():
                file.write(f"v {x} {y} {z}\n")
            for a, b, c in mesh.faces[0].tolist():
                file.write(f"f {a + 1} {b + 1} {c + 1}\n")
        return (f"{subfolder}/{filename}",)


class ShowPictures(io.ComfyNode):
    """Shows pictures, by the newer way of writing nodes; of ComfyUI's own none that does so lacks
    a filename_prefix."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ShowPictures",
            category="tests",
            inputs=[io.Image.Input("images")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images):
        return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))


class ShowBareText:
    """Shows a text that is in no list, which ComfyUI splits into its characters."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    def run(self, text):
        return {"ui": {"text": text}}


class DownloadModel:
    """Puts a file into the root of the output folder and gives only its name away, as the nodes of
    Tripo and Rodin do."""

    CATEGORY = "tests"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "task.glb"})}}

    def run(self, name):
        Path(folder_paths.get_output_directory(), name).write_bytes(b"glTF")
        return (name,)


NODE_CLASS_MAPPINGS = {
    "DownloadModel": DownloadModel,
    "CombineVideo": CombineVideo,
    "SaveTone": SaveTone,
    "CubeVoxel": CubeVoxel,
    "ExportMesh": ExportMesh,
    "ShowPictures": ShowPictures,
    "ShowBareText": ShowBareText,
}
