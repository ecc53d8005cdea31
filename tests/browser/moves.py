"""What people do on the page and see there. Needs no playwright, so that test files can import it without."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

TILES = ".tiles .tile[data-tile]"


def query_like(picture: Path, kind: str = "JPEG") -> bytes:
    """A smaller copy in another format, as if it came from somewhere else."""
    image = Image.open(picture).convert("RGB")
    image = image.resize((image.width * 4 // 5, image.height * 4 // 5))
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


def some_picture(pictures: Path, kind: str, number: int = 1) -> Path:
    return sorted((pictures / kind).iterdir())[number]


def kinds(pictures: Path) -> list[str]:
    return sorted(folder.name for folder in pictures.iterdir() if folder.is_dir() and folder.name != ".vitseek")


def choose(page: "Page", content: bytes, name: str = "query.jpg", kind: str = "image/jpeg") -> None:
    page.set_input_files("[data-intake] input[type=file]", {"name": name, "mimeType": kind, "buffer": content})


def names(page: "Page") -> list[str]:
    return page.locator(f"{TILES} img").evaluate_all("images => images.map((image) => image.alt)")


def hand_over(page: "Page", event: str, content: bytes, name: str = "dropped.png") -> None:
    """Drop or paste a file as the browser would."""
    page.evaluate(
        """([event, data, name]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            const options = { bubbles: true, cancelable: true };
            if (event === "paste") {
                document.body.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
                return;
            }
            for (const step of ["dragenter", "dragover", "drop"]) {
                document.body.dispatchEvent(new DragEvent(step, { ...options, dataTransfer: transfer }));
            }
        }""",
        [event, base64.b64encode(content).decode(), name],
    )
