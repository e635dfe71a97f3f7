"""`gpunn show`: a network at work, as one page that needs no server and sends nothing."""

from gpunn.show.page import page, write_page
from gpunn.show.snapshots import Snapshots

__all__ = ["Snapshots", "page", "write_page"]
