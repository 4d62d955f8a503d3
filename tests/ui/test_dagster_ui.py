"""The two user interfaces as a person uses them: a real browser, the real servers, a fresh home."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from servers import STARTS_S, free_port, served
from tenacity import Retrying, stop_after_delay, wait_fixed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RUN_STARTS, RUN_ENDS, PAGE_SHOWS = 120_000, 300_000, 30_000  # milliseconds, on a busy computer

PROFILE = """
home = "{home}"
dagster_ui = "http://127.0.0.1:{dagster}"
mlflow_ui = "http://127.0.0.1:{mlflow}"

[models]
lem-crypto = ["crypto"]

[crypto]
instruments = ["BTC/USDT"]
start = "2024-01-01"
end = "2024-04-15"
bars = {{ source = "simulated", origin = "2024-01-01" }}

[model]
lookback = 8
width = 8
attention_heads = 2
memory_width = 4
head_width = 8

[training]
batch_size = 16
batches_per_epoch = 2
max_epochs = 2
validation_orders = 16
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; install Debian's package chromium"),
]


@dataclass(frozen=True)
class Servers:
    """Where the two user interfaces are."""

    dagster: str
    mlflow: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("ui")
    profile, dagster, mlflow = folder / "small.toml", free_port(), free_port()
    profile.write_text(PROFILE.format(home=folder, dagster=dagster, mlflow=mlflow))
    with ExitStack() as running:
        for command, port in {"ui": dagster, "mlflow": mlflow}.items():
            arguments = [command, "--profile", str(profile), "--port", str(port)]
            running.enter_context(served("lem_pipeline.cli", arguments, folder / f"{command}.log"))
        yield Servers(f"http://127.0.0.1:{dagster}", f"http://127.0.0.1:{mlflow}")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A tab of a headless browser; what it shows last is kept as a picture beside the test's other files."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        tab = browser.new_page(viewport={"width": 1500, "height": 1200})
        tab.set_default_timeout(PAGE_SHOWS)
        expect.set_options(timeout=PAGE_SHOWS)
        try:
            yield tab
        finally:
            tab.screenshot(path=tmp_path / "last.png")
            browser.close()


def opened(page: Page, address: str) -> None:
    """Open a page of a server that may still be starting."""
    Retrying(stop=stop_after_delay(STARTS_S), wait=wait_fixed(0.5), reraise=True)(page.goto, address)


def test_a_person_makes_everything_by_clicking_and_reads_what_came_of_it(page: Page, servers: Servers) -> None:
    opened(page, servers.dagster)
    page.get_by_role("link", name="Jobs").click()
    for job in ("backfill", "compare", "ingest_crypto", "main", "promote", "roll_back", "train"):
        expect(page.locator(f"a[href$='/jobs/{job}']").first).to_be_visible()

    page.locator("a[href$='/jobs/main']").first.click()
    expect(page.get_by_text("Everything, from source to report")).to_be_visible()
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_text("4 partitions")).to_be_visible()
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_role("link", name="View", exact=True).click()
    page.get_by_role("tab", name="Runs").click()
    page.locator("a").filter(has_text=re.compile("^[0-9a-f]{8}$")).click(timeout=RUN_STARTS)
    expect(page).to_have_url(re.compile("/runs/[0-9a-f-]{36}"))
    run = re.findall("[0-9a-f-]{36}", page.url)[0]
    expect(page.get_by_text("lem-crypto: epoch 2/2, training loss").first).to_be_visible(timeout=RUN_ENDS)
    expect(page.get_by_text("Success", exact=True)).to_be_visible(timeout=RUN_ENDS)

    opened(page, f"{servers.dagster}/assets/reports/comparison")
    expect(page.get_by_text(re.compile("lem-crypto: .* stopping without any forecast"))).to_be_visible()
    expect(page.get_by_text("SIMULATED, no market figures")).to_be_visible()
    expect(page.get_by_role("cell", name="LEM over stopping, bps")).to_be_visible()

    opened(page, f"{servers.dagster}/assets/models/lem_crypto")
    link = page.locator(f"a[href^='{servers.mlflow}'][href*='/runs/']").first
    opened(page, str(link.get_attribute("href")))
    expect(page.get_by_text("Finished")).to_be_visible()
    expect(page.locator("a[href*='/models/lem-crypto']").first).to_be_visible()
    expect(page.get_by_role("link", name=f"Dagster run {run}")).to_have_attribute(
        "href", f"{servers.dagster}/runs/{run}"
    )

    opened(page, f"{servers.mlflow}/#/models/lem-crypto/versions/1")
    card_link = page.get_by_role("link", name=run)
    expect(page.get_by_text("Gates it passed")).to_be_visible()
    opened(page, str(card_link.get_attribute("href")))
    expect(page.get_by_text("Success", exact=True)).to_be_visible()
