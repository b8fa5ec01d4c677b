"""A notebook with stored outputs as a Markdown page for the site; its pictures become files beside it."""

import base64
import json
import re
from pathlib import Path

#: Escape sequences of a terminal.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def write_notebook_page(notebook: Path, page: Path) -> None:
    """Write the page, and beside it a picture for each output with one."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts, pictures = [], 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts += [source, ""]
            continue
        parts += ["```python", source, "```", ""]
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                name = f"{page.stem}-{pictures}.png"
                (page.parent / name).write_bytes(base64.b64decode("".join(data["image/png"])))
                parts += [f"![Output {pictures}]({name})", ""]
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts += ["```text", COLOURS.sub("", text), "```", ""]
    page.write_text("\n".join(parts), encoding="utf-8")
