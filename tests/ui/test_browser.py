"""The page and the reports in a real browser.

LORAMETA_PICTURES=DIR keeps pictures for the docs, of the bank that is the default.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lorameta import Adapter
from lorameta.examples import path as example
from tests.ui.browser import Browser

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PICTURES = os.environ.get("LORAMETA_PICTURES")


@pytest.fixture
def browser(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    made = Browser(folder)
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path):
    """Start the page in a process of its own, as a user does; return its address."""
    running: list[subprocess.Popen[str]] = []

    def start(bank: object) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [sys.executable, "-m", "lorameta", "ui", "--bank", str(bank), "--port", str(port)]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        running.append(process)
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, line
        return f"http://127.0.0.1:{port}/"

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


def picture(browser: Browser, name: str, height: int | None = None) -> None:
    if PICTURES:
        browser.picture(Path(PICTURES) / name, height)


def read(browser: Browser, file: Path) -> None:
    browser.wait("#take", lambda one: one.is_displayed())
    browser.find("#file input[type=file]").send_keys(str(file))
    browser.wait("#rows", lambda one: file.name in one.text)


def pick(browser: Browser, key: str, choice: str) -> None:
    """Choose from a drop-down list."""
    browser.find(f"#{key} input").click()
    browser.wait(f"ul[role=listbox] li[aria-label='{choice}']", lambda one: one.is_displayed()).click()


def look(browser: Browser, *, dark: bool = False, phone: bool = False) -> None:
    """See a page in the dark, on a phone."""
    command = browser.driver.execute_cdp_cmd
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    command("Emulation.setEmulatedMedia", {"features": [scheme]})
    if phone:
        command("Emulation.setDeviceMetricsOverride",
                {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})  # fmt: skip
    else:
        command("Emulation.clearDeviceMetricsOverride", {})


def width(browser: Browser) -> tuple[int, int]:
    """How wide a page is, and its window."""
    return tuple(browser.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]"))


def field(browser: Browser, key: str) -> str:
    return browser.find(f"#{key} textarea, #{key} input").get_attribute("value")


def test_from_a_csv_to_an_answer_and_the_downloads(browser, serve, tiny_bank, tmp_path):
    rows = tmp_path / "animals.csv"
    lines = [f"Say what sound the animal makes.,{animal} farm {i},{sound}" for i in range(3)
             for animal, sound in (("dog", "bark"), ("cat", "meow"), ("cow", "moo"))]  # fmt: skip
    rows.write_text("\n".join(["instruction,input,output", *lines]) + "\n", encoding="utf-8")
    bank, base = ("smollm2", None) if PICTURES else (tiny_bank, tiny_bank / "base")
    browser.driver.get(serve(bank))
    read(browser, rows)
    assert "Read 9 rows of animals.csv" in browser.find("#rows").text
    assert "Definition: Say what sound the animal makes." in browser.find("#rows").text
    browser.find("#compare").click()
    browser.wait("#found", lambda one: "Nearest dataset" in one.text)
    browser.find("#generate").click()
    browser.wait("#status", lambda one: "Made an adapter" in one.text)
    browser.find("#question textarea, #question input").send_keys("dog farm 1")
    browser.find("#ask").click()
    browser.wait("#asked", lambda one: "Answered" in one.text)
    picture(browser, "answers.png", 2700)
    look(browser, dark=True, phone=True)
    assert width(browser)[0] <= 390
    look(browser)
    for key in ("peft", "gguf", "report"):
        browser.wait(f"#{key}", lambda one: one.is_enabled()).click()
    with zipfile.ZipFile(browser.downloaded("adapter.zip")) as archive:
        archive.extractall(tmp_path)
    adapter = Adapter.from_pretrained(tmp_path / "adapter")
    assert adapter.report["prompt"]["prefix"] == "Definition: Say what sound the animal makes.\n\nInput: "
    gguf = browser.downloaded("adapter*gguf*")  # a zip where the base needs a head of its own
    content = zipfile.ZipFile(gguf).read("adapter.gguf") if gguf.suffix == ".zip" else gguf.read_bytes()
    assert content[:4] == b"GGUF"
    assert b"<!DOCTYPE html>" in browser.downloaded("report*.html").read_bytes()[:20]
    answers = subprocess.run(
        [sys.executable, "-m", "lorameta", "ask", tmp_path / "adapter", "dog farm 1", "--compare", "--json",
         *(["--base", base] if base else [])], cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    expected = json.loads(answers)["answers"][0]
    assert (field(browser, "base"), field(browser, "mine")) == (expected["base"], expected["answer"])
    assert browser.console() == []
    assert {url.split("/")[2].split(":")[0] for url in browser.requests()} == {"127.0.0.1"}


def test_a_refused_file_is_explained_as_in_the_terminal(browser, serve, tiny_bank, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "a", "output": "b"}\n{"input": 3, "output": ["x", {}]}\n', encoding="utf-8")
    words = [sys.executable, "-m", "lorameta", "explain", str(rows), "--bank", str(tiny_bank)]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stderr.strip()
    browser.driver.get(serve(tiny_bank))
    read(browser, rows)
    alert = browser.wait("#rows [role=alert]", lambda one: "lorameta:" in one.text)
    assert " ".join(alert.text.split()) == " ".join(told.replace(str(rows), "rows.jsonl").split())
    browser.find("#generate").click()
    browser.wait("#status [role=alert]", lambda one: "there are no rows yet" in one.text)


def test_columns_are_chosen_by_what_is_in_them(browser, serve, tiny_bank, tmp_path):
    lines = example("helpdesk_train.jsonl").read_text(encoding="utf-8").splitlines()
    given = [json.loads(line) for line in lines]
    rows = tmp_path / "messages.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["message", "team"], *([row["input"], row["output"]] for row in given)])
    browser.driver.get(serve("smollm2" if PICTURES else tiny_bank))
    read(browser, rows)
    browser.wait("#rows [role=alert]", lambda one: "no input column" in one.text)
    preview = " ".join(f"message team {given[0]['input']} {given[0]['output']}".split())
    assert preview in " ".join(browser.find("#rows").text.split())
    pick(browser, "input-column", "message")
    browser.wait("#rows", lambda one: "prompt from message, no answers" in one.text)
    pick(browser, "output-column", "team")
    browser.wait("#rows", lambda one: "prompt from message, answer from team" in one.text)
    assert preview in " ".join(browser.find("#rows").text.split())
    browser.find("#compare").click()
    browser.wait("#found", lambda one: "Nearest dataset" in one.text and "Expected gain" in one.text)
    picture(browser, "page.png", 2300)
    look(browser, dark=True, phone=True)
    assert width(browser)[0] <= 390
    picture(browser, "page-phone.png")
    assert browser.console() == []


def test_a_cancelled_generation_makes_no_adapter(browser, serve):
    browser.driver.get(serve("tiny"))
    read(browser, example("helpdesk_train.jsonl"))
    browser.find("#generate").click()
    browser.wait("#status", lambda one: "..." in one.text)
    browser.find("#cancel").click()
    browser.wait("#status [role=alert]", lambda one: "cancelled; no adapter was made" in one.text)
    assert not browser.find("#peft").is_enabled()
    browser.find("#question textarea, #question input").send_keys("dog")
    browser.find("#ask").click()
    browser.wait("#asked [role=alert]", lambda one: "generate one first" in one.text)


def test_a_report_opens_offline_on_a_phone_and_by_keyboard(browser, lorameta, tiny_bank, tiny_rows, tmp_path):
    from selenium.webdriver.common.keys import Keys

    page = tmp_path / "report.html"
    made = lorameta("generate", tiny_rows, "--bank", tiny_bank, "-o", tmp_path / "a", "--html", page)
    assert made.code == 0, made.err
    command = browser.driver.execute_cdp_cmd
    command("Network.enable", {})
    command("Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0})  # fmt: skip
    for dark in (False, True):
        look(browser, dark=dark, phone=dark)
        browser.driver.get(page.as_uri())
        wide, window = width(browser)
        assert wide <= window
        ink, ground = browser.driver.execute_script(
            "const body = getComputedStyle(document.body); return [body.color, body.backgroundColor]"
        )
        assert (ground == "rgb(255, 255, 255)") is not dark
        assert ink != ground
    body = browser.find("body")
    body.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    picture(browser, "report.png")
    assert browser.console() == []
    assert browser.requests() == []
    assert len(browser.driver.find_elements("css selector", "svg[role=img] > title")) >= 2
