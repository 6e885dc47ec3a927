"""A real browser for the slow tests: Debian's chromium, driven by selenium."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INSTALL = (
    "the browser tests need {lacking}: apt-get install chromium chromium-driver, and pip install selenium "
    "(both are on Debian; the paths are found on PATH)"
)


class Browser:
    """A window of chromium that keeps what it downloads, what its console says and where its requests go."""

    def __init__(self, downloads: Path, size: tuple[int, int] = (1200, 1600)) -> None:
        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        if lacking := [name for name, path in programs.items() if path is None]:
            pytest.fail(INSTALL.format(lacking=" and ".join(lacking)))
        try:
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
        except ImportError:
            pytest.fail(INSTALL.format(lacking="selenium"))
        options = webdriver.ChromeOptions()
        options.binary_location = str(programs["chromium"])
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={size[0]},{size[1]}"):
            options.add_argument(word)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.downloads = downloads
        self.driver: Any = webdriver.Chrome(options=options, service=Service(str(programs["chromedriver"])))

    def find(self, css: str) -> Any:
        """The first element that fits."""
        return self.driver.find_element("css selector", css)

    def wait(self, css: str, until: Callable[[Any], object], seconds: float = 3600) -> Any:
        """Wait for an element in the state that is asked for."""
        from selenium.common.exceptions import WebDriverException

        end, last = time.monotonic() + seconds, "nothing"
        while time.monotonic() < end:
            try:
                element = self.find(css)
                last = element.text
                if until(element):
                    return element
            except WebDriverException as error:
                last = str(error.msg)
            time.sleep(0.2)
        raise AssertionError(f"{css} did not come to be as it should in {seconds} s; it shows: {last}")

    def console(self) -> list[str]:
        """Errors of the console."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses of everything that was asked for over a network."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        found = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        return [url for url in found if not url.startswith(("data:", "blob:", "file:", "chrome"))]

    def downloaded(self, pattern: str, seconds: float = 600) -> Path:
        """Wait for a file that is whole."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [path for path in self.downloads.glob(pattern) if path.suffix != ".crdownload"]
            if found and not list(self.downloads.glob("*.crdownload")):
                return found[0]
            time.sleep(0.2)
        raise AssertionError(f"no {pattern} was downloaded in {seconds} s")

    def picture(self, place: Path, height: int | None = None) -> None:
        """Write a picture of the window, made as high as is asked for."""
        if height is not None:
            self.driver.set_window_size(self.driver.get_window_size()["width"], height)
            time.sleep(0.5)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(place))

    def close(self) -> None:
        """End it."""
        self.driver.quit()
