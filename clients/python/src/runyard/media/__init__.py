"""What log() takes besides numbers: images, sounds, videos, pages, tables, histograms and plots."""

from __future__ import annotations

from runyard.media.audio import Audio
from runyard.media.histogram import Histogram
from runyard.media.html import Html
from runyard.media.image import Image
from runyard.media.overlays import Classes
from runyard.media.plots import Chart, Plotly, plot_table
from runyard.media.table import Table
from runyard.media.value import Media
from runyard.media.video import Video

__all__ = [
    "Audio",
    "Chart",
    "Classes",
    "Histogram",
    "Html",
    "Image",
    "Media",
    "Plotly",
    "Table",
    "Video",
    "plot_table",
]
