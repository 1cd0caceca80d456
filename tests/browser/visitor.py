"""What a person does on the page, as verbs."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.fakes.page_gateway import PageGateway

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"
Point = tuple[float, float]
TIMES = "\N{MULTIPLICATION SIGN}"
# The browser's own line about an answer that the test has the gateway give.
_REFUSED = re.compile(r"Failed to load resource")


class Visitor:
    """One tab. `provoked` True lets the browser report answers that are errors."""

    def __init__(self, page: Page, gateway: PageGateway) -> None:
        self.page, self.gateway, self.provoked = page, gateway, False
        self._console: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._console.append(f"exception: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._console.append(message.text)

    def faults(self) -> list[str]:
        return [
            text for text in self._console if not (self.provoked and _REFUSED.search(text))
        ]  # fmt: skip

    def get(self, name: str) -> Locator:
        return self.page.locator(f"[id='{name}'], [data-testid='{name}']")

    def is_in(self, state: str) -> None:
        expect(self.page.locator("body")).to_have_attribute("data-state", state)

    def sees(self, name: str, text: str | re.Pattern[str] | None = None) -> None:
        expect(self.get(name)).to_be_visible()
        if text is not None:
            expect(self.get(name)).to_contain_text(text)

    def sees_no(self, *names: str) -> None:
        for name in names:
            expect(self.get(name)).to_be_hidden()

    def press(self, name: str) -> None:
        self.get(name).click()

    def give_photo(self, photo: Path | bytes = PORTRAIT, name: str = "beach.jpg") -> None:
        data = photo if isinstance(photo, bytes) else photo.read_bytes()
        files: Any = {"name": name, "mimeType": "image/jpeg", "buffer": data}
        self.get("photo-input").set_input_files(files)

    def say(self, words: str) -> None:
        self.get("prompt").fill(words)

    def prepare(self, words: str = "Make the sky red") -> None:
        """Photo, whole picture and words: ready to generate."""
        self.give_photo()
        self.is_in("ready")
        self.press("mask-whole")
        self.say(words)
        expect(self.get("generate")).to_be_enabled()

    def generate(self) -> None:
        expect(self.get("generate")).to_be_enabled()
        self.press("generate")

    def start_job(self) -> None:
        self.prepare()
        self.generate()
        self.is_in("queued")

    def finish(self, picture: bytes | None = None) -> None:
        self.gateway.succeed(picture or png())
        self.is_in("done")

    def at(self, point: Point) -> Point:
        """Where a point of the photo, in its pixels, is in the window."""
        box = self.page.locator("#photo").bounding_box()
        assert box
        width, height = self.photo_size
        return box["x"] + point[0] * box["width"] / width, box["y"] + point[1] * box[
            "height"
        ] / height

    @property
    def photo_size(self) -> tuple[int, int]:
        style = self.page.locator("#plate").evaluate("e => [e.offsetWidth, e.offsetHeight]")
        return int(style[0]), int(style[1])

    def drag(self, *points: Point, steps: int = 4) -> None:
        """By mouse, over points of the photo."""
        mouse = self.page.mouse
        for number, (x, y) in enumerate(map(self.at, points)):
            mouse.move(x, y, steps=steps if number else 1)
            if number == 0:
                mouse.down()
        mouse.up()

    def strokes(self) -> list[dict[str, Any]]:
        """The mask's operations, as the page keeps them."""
        return self.kept("mask")["ops"]  # type: ignore[no-any-return]

    def kept(self, name: str) -> Any:
        return self.page.evaluate(
            """name => new Promise(resolve => {
                const opening = indexedDB.open("qwen-image-edit")
                opening.onsuccess = () => {
                    const key = `${sessionStorage.session ?? 0}/${name}`
                    const asked = opening.result.transaction("kept").objectStore("kept").get(key)
                    asked.onsuccess = () => (opening.result.close(), resolve(asked.result))
                }
            })""",
            name,
        )

    def sent_mask(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """The mask of the newest job: rows by columns, true where white."""
        data = self.gateway.newest.body["mask"].partition("base64,")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            grey = np.asarray(image.convert("L"))
        assert set(np.unique(grey)) <= {0, 255}
        return grey > 0


def png(size: tuple[int, int] = (512, 512), colour: str = "teal") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def jpeg(size: tuple[int, int], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()
