"""The theme of the page: the report's colours for Gradio's components, in light and dark."""

from __future__ import annotations

import gradio as gr

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")
BLUE = gr.themes.Color(
    "#eef4f8",
    "#dcebf5",
    "#b9d8ec",
    "#8fc3e3",
    "#6fbdea",
    "#1f7fb8",
    "#00629b",
    "#00507f",
    "#003f64",
    "#002f4b",
    "#001f33",
)
STONE = gr.themes.Color(
    "#fbfaf8",
    "#f3f1ec",
    "#e2e0da",
    "#c9c6be",
    "#9aa3b0",
    "#5c6470",
    "#4a515c",
    "#30363f",
    "#1c2027",
    "#14171c",
    "#0f1115",
)
# Gradio's variable → its value in light and in dark
VARIABLES = {
    "body_background_fill": ("#fbfaf8", "#14171c"),
    "body_text_color": ("#1d2129", "#e6e8ec"),
    "body_text_color_subdued": ("#5c6470", "#9aa3b0"),
    "background_fill_primary": ("#ffffff", "#1c2027"),
    "background_fill_secondary": ("#fbfaf8", "#14171c"),
    "border_color_primary": ("#e2e0da", "#30363f"),
    "border_color_accent": ("#00629b", "#6fbdea"),
    "color_accent_soft": ("#eef4f8", "#1b2833"),
    "link_text_color": ("#00629b", "#6fbdea"),
    "link_text_color_hover": ("#00507f", "#8fc3e3"),
    "link_text_color_visited": ("#00629b", "#6fbdea"),
    "block_background_fill": ("#ffffff", "#1c2027"),
    "block_border_color": ("#e2e0da", "#30363f"),
    "block_label_background_fill": ("#ffffff", "#1c2027"),
    "block_label_text_color": ("#5c6470", "#9aa3b0"),
    "block_title_text_color": ("#1d2129", "#e6e8ec"),
    "block_info_text_color": ("#5c6470", "#9aa3b0"),
    "input_background_fill": ("#ffffff", "#14171c"),
    "input_border_color": ("#8a8f98", "#6b7480"),
    "input_border_color_focus": ("#00629b", "#6fbdea"),
    "input_placeholder_color": ("#5c6470", "#9aa3b0"),
    "slider_color": ("#00629b", "#6fbdea"),
    "button_primary_background_fill": ("#00629b", "#6fbdea"),
    "button_primary_background_fill_hover": ("#00507f", "#8fc3e3"),
    "button_primary_text_color": ("#ffffff", "#14171c"),
    "button_secondary_background_fill": ("#f3f1ec", "#30363f"),
    "button_secondary_background_fill_hover": ("#e2e0da", "#3b424d"),
    "button_secondary_text_color": ("#1d2129", "#e6e8ec"),
    "error_background_fill": ("#fdf3e7", "#2b241a"),
    "error_text_color": ("#a84300", "#f0a858"),
    "error_icon_color": ("#a84300", "#f0a858"),
    "error_border_color": ("#a84300", "#f0a858"),
}


def make_theme() -> gr.themes.Base:
    """The theme, with fonts of the reader's system: none is downloaded."""
    theme = gr.themes.Base(
        primary_hue=BLUE, secondary_hue=BLUE, neutral_hue=STONE, radius_size="lg", font=FONT, font_mono=MONO
    )
    light = {name: values[0] for name, values in VARIABLES.items()}
    dark = {f"{name}_dark": values[1] for name, values in VARIABLES.items()}
    return theme.set(
        **light, **dark, block_shadow="none", block_label_text_weight="500", button_large_text_weight="600"
    )
