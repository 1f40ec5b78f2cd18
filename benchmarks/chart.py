"""How does a bar chart show the results?"""

from html import escape

from benchmarks.rates import Row
from benchmarks.results import Results

WIDTH = 860
LABELS = 330  # pixels left of the bars
VALUES = 60  # pixels right of the bars
BAR, GAP = 18, 10
STYLE = """\
text{font:13px system-ui,sans-serif;fill:#24292f}
.loader,.memory{fill:#8c959f}.peer{fill:#8250df}.ours{fill:#0969da}.limit{fill:#d4a72c}.spread{stroke:#24292f}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.spread{stroke:#e6edf3}}"""


def svg(results: Results) -> str:
    """Draw one bar per case. Its length is the median, and a line goes from the lowest to the highest value."""
    greatest = max(rate for row in results.rows for rate in row.rates)
    bars = [_bar(row, number, (WIDTH - LABELS - VALUES) / greatest) for number, row in enumerate(results.rows)]
    height = GAP + len(bars) * (BAR + GAP) + 24
    where = results.machine.gpu if results.device == "cuda" else f"{results.machine.cpu}, {results.num_threads} threads"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="Steps per second of each way to train">\n<style>{STYLE}</style>\n'
        + "\n".join(bars)
        + f'\n<text x="{LABELS}" y="{height - 8}">steps per second; {escape(where or "")}</text>\n</svg>\n'
    )


def _bar(row: Row, number: int, scale: float) -> str:
    top = GAP + number * (BAR + GAP)
    middle = top + BAR / 2
    low, end, high = (LABELS + rate * scale for rate in (min(row.rates), row.rate, max(row.rates)))
    label = f"{row.name}, {row.precision}"
    return (
        f'<text x="{LABELS - 8}" y="{middle:g}" dy=".35em" text-anchor="end">{escape(label)}</text>'
        f'<rect class="{row.group}" x="{LABELS}" y="{top}" width="{end - LABELS:.1f}" height="{BAR}"/>'
        f'<path class="spread" d="M{low:.1f},{middle:g}H{high:.1f}"/>'
        f'<text x="{high + 6:.1f}" y="{middle:g}" dy=".35em">{row.rate:,.0f}</text>'
    )
