"""A progress bar for library calls, on a terminal and in notebooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from gpunn.history import counted

Show = Callable[[int, str], None]
"""Shows the number of finished epochs and a few words."""


@contextmanager
def progress(epochs: int) -> Iterator[Show | None]:
    """Show a bar for `epochs` epochs; yield what advances it, or None where output is no terminal and no notebook."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    if console.is_jupyter:
        yield _in_notebook(epochs)
    elif console.file.isatty() and console.is_interactive:
        columns = TextColumn("{task.description}"), BarColumn(40), TimeRemainingColumn(compact=True)
        # What is printed stays where it goes: redirection would be for the whole process.
        with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task(counted(0, epochs), total=epochs)
            yield lambda done, words: bar.update(task, completed=done, description=f"{counted(done, epochs)}  {words}")
    else:
        yield None


def _in_notebook(epochs: int) -> Show:
    # rich would need ipywidgets.
    from IPython.display import HTML, display

    def html(done: int, words: str) -> Any:
        bar = f'<progress value="{done}" max="{epochs}"></progress>'
        return HTML(f"{bar} {escape(counted(done, epochs))} {escape(words)}")

    handle = display(html(0, ""), display_id=True)
    return lambda done, words: handle.update(html(done, words))
