"""maubot's web UI as a person uses it: what is clicked, typed, pasted and read; it knows no API and no plugin."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import FloatRect, Locator, Page, Response, expect

from tests.stack.maubot import Maubot
from tests.stack.synapse import Login

PATH = "/_matrix/maubot/"
PATIENCE = 60_000.0
"""Milliseconds that anything may take to appear."""
HIDE_SECRETS = "input[name=access_token] { -webkit-text-security: disc } .recovery-key code { filter: blur(6px) }"
OUTLINE = """() => {
    const frame = document.querySelector(".dashboard").getBoundingClientRect();
    const inside = Array.from(document.querySelectorAll("nav .entry, main .buttons, main .error:not(:empty), main h3"));
    const lowest = Math.max(...inside.map(element => element.getBoundingClientRect().bottom));
    return [frame.x, 0, frame.width, Math.min(lowest + 20, window.innerHeight)];
}"""
"""The page without the empty space around and below it: left, top, width, height."""


def quiet_log(maubot: Maubot) -> None:
    """Let a maubot that does not run yet log less, for its UI forgets the error on the screen with each line logged.

    The next line is often that of the refused request itself, in maubot 0.6.0: then nobody sees why it was refused.
    """
    path = maubot.directory / "config.yaml"
    settings = json.loads(path.read_text())
    levels = {"maubot": "INFO", "mau": "INFO", "aiohttp": "WARNING"}
    settings["logging"]["loggers"] = {name: {"level": level} for name, level in levels.items()}
    path.write_text(json.dumps(settings))


class WebUI:
    """The admin UI of one maubot in a browser's page."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url + PATH
        page.set_default_timeout(PATIENCE)

    async def picture(self, path: Path) -> None:
        """Photograph what is on the screen, without secrets and without a blinking cursor."""
        left, top, width, height = await self._page.evaluate(OUTLINE)
        clip = FloatRect(x=left, y=top, width=width, height=height)
        await self._page.screenshot(path=path, clip=clip, style=HIDE_SECRETS, animations="disabled", caret="hide")

    async def log_in(self, user: str, password: str) -> None:
        await self._page.goto(self._url)
        await self._page.get_by_placeholder("Username").fill(user)
        await self._page.get_by_placeholder("Password").fill(password)
        await self._page.get_by_role("button", name="Log in").click()
        await self._page.get_by_text("See sidebar to get started").wait_for()

    async def upload_plugin(self, archive: Path) -> str:
        """Choose a file in the upload box of a new plugin; the ID that the UI shows then."""
        await self._new("plugins")
        await self._page.locator("input.file-selector").set_input_files(archive)
        shown = self._page.get_by_label("ID", exact=True)
        await shown.wait_for()
        return await shown.input_value()

    # Clients

    async def fill_client(self, homeserver: str, login: Login) -> None:
        """Fill in the form of a new client: without autojoin, which anybody could abuse; without sync, it is ours."""
        await self._new("clients")
        await self._page.get_by_label("User ID").fill(login.user_id)
        await self._page.locator("#Homeserver input").fill(homeserver)
        await self._page.keyboard.press("Enter")
        await self._page.get_by_label("Access token").fill(login.access_token)
        await self._page.get_by_label("Device ID").fill(login.device_id)
        await self._page.locator("#Sync").click()
        await self._page.locator("#Autojoin").click()

    async def create_client(self) -> str:
        """Send the form; the trust in the new device that the UI shows then."""
        await self._button("Create").click()
        await self._page.get_by_text("Started", exact=True).wait_for()
        return await self._page.get_by_label("Trust state").input_value()

    async def generate_recovery_key(self) -> str:
        """Cross-sign the client that is on the screen; the recovery key that the UI shows once."""
        await self._button("Generate recovery key").click()
        return await self._page.locator(".recovery-key code").inner_text()

    # Instances

    async def fill_instance(self, name: str, bot: str, plugin: str) -> None:
        """Fill in the form of a new instance; its primary user is chosen by display name."""
        await self._new("instances")
        await self._page.get_by_label("ID", exact=True).fill(name)
        await self._choose("Primary user", bot)
        await self._choose("Type", plugin)

    async def create_instance(self) -> None:
        """Send the form and wait for the editor of the settings."""
        await self._button("Create").click()
        await self._editor.wait_for()

    async def open_instance(self, name: str) -> None:
        """Load an instance from the server, as it is there."""
        await self._open(f"instance/{name}")
        await self._editor.wait_for()

    async def copy_settings(self) -> str:
        """All that is in the editor, by way of the clipboard."""
        await self._allow_clipboard()
        await self._focus_editor()
        await self._page.keyboard.press("Control+a")
        await self._page.keyboard.press("Control+c")
        text = await self._page.evaluate("navigator.clipboard.readText()")
        await self._page.keyboard.press("Control+Home")
        return str(text)

    async def paste_settings(self, text: str) -> None:
        """Replace all that is in the editor, by way of the clipboard."""
        await self._allow_clipboard()
        await self._focus_editor()
        await self._page.evaluate("text => navigator.clipboard.writeText(text)", text)
        await self._page.keyboard.press("Control+a")
        await self._page.keyboard.press("Control+v")
        await self._page.keyboard.press("Control+Home")

    async def type_at_the_end(self, erase: str, text: str) -> None:
        """Remove the last characters in the editor, which must be `erase`, and type `text` there key by key."""
        if not (await self.copy_settings()).rstrip("\n").endswith(erase):
            raise AssertionError(f"the settings do not end with {erase!r}")
        await self._page.keyboard.press("Control+End")
        if (await self.copy_settings()).endswith("\n"):
            erase += "\n"
        await self._page.keyboard.press("Control+End")
        for _ in erase:
            await self._page.keyboard.press("Backspace")
        await self._page.keyboard.type(text)

    async def show_line(self, line: str, below: int) -> None:
        """Put the cursor into a line, with at least `below` more in view after it."""
        number = (await self.copy_settings()).splitlines().index(line)
        for _ in range(number + below):
            await self._page.keyboard.press("ArrowDown")
        for _ in range(below):
            await self._page.keyboard.press("ArrowUp")

    async def save(self) -> None:
        """Press Save.

        Raises:
            AssertionError: it was refused; quotes maubot's answer.
        """
        answer = await self._press_save()
        if not answer.ok:
            raise AssertionError(f"{answer.status} {await answer.text()}")
        await expect(self._error).to_be_empty()
        await expect(self._button("Save")).to_be_enabled()

    async def save_refused(self) -> str:
        """Press Save; the error that the UI shows then.

        Raises:
            AssertionError: it was not refused, or no error can be seen.
        """
        answer = await self._press_save()
        if answer.ok:
            raise AssertionError("it was saved")
        await expect(self._error).to_be_in_viewport(timeout=PATIENCE)
        await expect(self._error).not_to_be_empty(timeout=PATIENCE)
        return await self._error.inner_text()

    # What is on the page

    @property
    def _editor(self) -> Locator:
        return self._page.locator("#config.ace_editor")

    @property
    def _error(self) -> Locator:
        return self._page.locator("main > .instance > .error")

    async def _press_save(self) -> Response:
        async with self._page.expect_response(lambda response: response.request.method == "PUT") as answer:
            await self._button("Save").click()
        return await answer.value

    def _button(self, name: str) -> Locator:
        return self._page.locator("main").get_by_role("button", name=name, exact=True)

    async def _new(self, what: str) -> None:
        await self._page.locator(f".{what}.list .title a").click()

    async def _open(self, where: str) -> None:
        await self._page.goto(f"{self._url}#/{where}")
        await self._page.reload()

    async def _choose(self, label: str, option: str) -> None:
        select = self._page.locator(f"[id='{label}']")
        await select.click()
        await select.locator("[id*='-option-']", has_text=option).click()
        await expect(select).to_contain_text(option)

    async def _focus_editor(self) -> None:
        await self._editor.locator(".ace_scroller").click(position={"x": 40, "y": 8})

    async def _allow_clipboard(self) -> None:
        await self._page.context.grant_permissions(["clipboard-read", "clipboard-write"])
