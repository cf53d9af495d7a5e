"""How pages look, and what of it a browser needs before it paints: colours, by day and night.

The rules are in `theme.css`. Nothing is fetched from anywhere but the dashboard itself.
"""

from __future__ import annotations

from pathlib import Path

from nicegui import ui

CSS = Path(__file__).with_name("theme.css").read_text(encoding="utf-8")

COLOURS = """
window.colours = {
  dark: matchMedia("(prefers-color-scheme: dark)"),
  chosen() {
    try { return localStorage.getItem("colours") || "system"; } catch { return "system"; }
  },
  apply() {
    const chosen = this.chosen();
    const night = chosen === "system" ? this.dark.matches : chosen === "dark";
    document.documentElement.dataset.theme = night ? "dark" : "light";
  },
  choose(name) { try { localStorage.setItem("colours", name); } catch {} this.apply(); },
};
window.colours.apply();
window.colours.dark.addEventListener("change", () => window.colours.apply());
"""

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%2317456f'/%3E%3Cpath d='M3 5.5h6v5H3zM11 4l3 4-3 "
    "4' fill='none' stroke='%23fff' stroke-width='1.6'/%3E%3C/svg%3E"
)


def dress() -> None:
    """Give the page that is being built its look."""
    ui.add_head_html(f"<script>{COLOURS}</script><style>{CSS}</style>")
