"""The few elements that pages are put together from: live markup, plain tags, and the pulse."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Live(ui.element, component="live.js"):
    """Markup that is patched in place as it changes; only what has changed is sent at all."""

    def __init__(self, classes: str = "") -> None:
        """Show nothing yet."""
        super().__init__()
        self._props["markup"] = ""
        self.classes(classes)

    def show(self, markup: Markup) -> None:
        """Show markup; text must have been escaped, which `Markup` says of itself."""
        shown = str(markup)
        if shown != self._props["markup"]:
            self._props["markup"] = shown


class Pulse(ui.element, component="pulse.js"):
    """Beats while the dashboard is there, and carries the page's title and address."""

    def __init__(self) -> None:
        """Beat once."""
        super().__init__()
        self._props.update(beat=0, title="", address="")

    def beat(self, title: str) -> None:
        """Say that the dashboard is there, and what the browser's tab is called."""
        self._props["beat"] += 1
        self._props["title"] = title

    def go(self, address: str) -> None:
        """Change the address that the browser shows, and comes back to on a reload."""
        self._props["address"] = address


class Colours(ui.element, component="colours.js"):
    """The choice between light, dark, and what the system has."""


class Tag(TextElement):
    """A plain tag with text, attributes and a class."""

    def __init__(self, tag: str, text: str = "", classes: str = "", **attributes: Any) -> None:
        """Make the tag; underscores in names of attributes are dashes."""
        super().__init__(tag=tag, text=text)
        self.classes(classes)
        for name, value in attributes.items():
            self._props[name.rstrip("_").replace("_", "-")] = value

    def attribute(self, name: str, value: Any) -> None:
        """Change an attribute; None takes it away."""
        if self._props.get(name) != value:
            self._props.set_optional(name, value)
