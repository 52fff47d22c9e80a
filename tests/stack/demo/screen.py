"""The chat in the terminal: messages above, changed in place when they are edited, and a line to type in below."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.styles import Style

from tests.stack.chat import ChatClient

from .lines import Line, message_lines, wrap

QUIT = ("quit", "exit", "/quit")
PROMPT = "▸ "
STYLE = Style.from_dict(
    {"me": "ansicyan bold", "bot": "ansigreen bold", "strong": "bold", "code": "ansiyellow", "dim": "ansibrightblack"}
    | {"bad": "ansired bold", "rule": "ansibrightblack"}
)


class ChatScreen:
    """One room, for one person.

    Args:
        intro: lines above the first message.
    """

    def __init__(self, chat: ChatClient, room: str, intro: Sequence[str]) -> None:
        self._chat = chat
        self._room = room
        self._intro = intro
        self._scrolled = 0  # lines above the end
        self._lines: list[Line] = []
        self._sending: asyncio.Task[None] | None = None
        self._typed = Buffer(multiline=False, accept_handler=self._enter, history=InMemoryHistory())
        self.application: Application[None] = Application(
            layout=self._layout(), key_bindings=self._keys(), style=STYLE, full_screen=True
        )

    async def run(self) -> None:
        """Show the room until the person leaves."""
        redrawing = asyncio.create_task(self._redraw())
        try:
            await self.application.run_async(handle_sigint=False)
        finally:
            redrawing.cancel()
            await asyncio.gather(redrawing, return_exceptions=True)

    def transcript(self, width: int) -> list[str]:
        """The room's messages as plain lines."""
        return ["".join(text for _, text in line) for line in self._message_lines(width)]

    async def _redraw(self) -> None:
        try:
            while True:
                await self._chat.wait_change()
                self.application.invalidate()
        except Exception as error:  # noqa: BLE001 - whatever ends the sync ends the chat, and is told
            self.application.exit(exception=error)

    def _layout(self) -> Layout:
        messages = FormattedTextControl(self._text, show_cursor=False)
        typing = BufferControl(self._typed, input_processors=[BeforeInput(PROMPT, style="class:me")])
        line = Window(typing, height=1, dont_extend_height=True)
        parts = [Window(messages), Window(height=1, char="─", style="class:rule"), line]
        return Layout(HSplit(parts), focused_element=line)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("c-c")(lambda event: event.app.exit())
        keys.add("c-d")(lambda event: event.app.exit())
        keys.add("pageup")(lambda _: self._scroll(+1))
        keys.add("pagedown")(lambda _: self._scroll(-1))
        keys.add("up")(self._older)
        keys.add("down")(self._newer)
        return keys

    def _older(self, event: KeyPressEvent) -> None:
        event.current_buffer.history_backward()

    def _newer(self, event: KeyPressEvent) -> None:
        event.current_buffer.history_forward()

    def _scroll(self, pages: int) -> None:
        furthest = max(0, len(self._lines) - self._rows())
        self._scrolled = max(0, min(self._scrolled + pages * (self._rows() - 1), furthest))

    def _rows(self) -> int:
        """Rows for messages: all but the rule and the line to type in."""
        return max(2, self.application.output.get_size().rows - 2)

    def _enter(self, typed: Buffer) -> bool:
        text = typed.text.strip()
        self._scrolled = 0
        if text.lower() in QUIT:
            self.application.exit()
        elif text:
            self._sending = self.application.create_background_task(self._send(text))
        return False  # empty the line

    async def _send(self, text: str) -> None:
        try:
            await self._chat.send(self._room, text)
        except Exception as error:  # noqa: BLE001 - a chat that cannot send ends, and says why
            self.application.exit(exception=error)

    def _text(self) -> StyleAndTextTuples:
        width = self.application.output.get_size().columns
        intro = [line for text in self._intro for line in wrap([("class:dim", text)], width)]
        self._lines = [*intro, *self._message_lines(width)]
        first = max(0, len(self._lines) - self._rows() - self._scrolled)
        shown: StyleAndTextTuples = []
        for line in self._lines[first : first + self._rows()]:
            shown += [*line, ("", "\n")]
        return shown[:-1]

    def _message_lines(self, width: int) -> list[Line]:
        lines: list[Line] = []
        for message in self._chat.timeline.messages(self._room):
            lines += message_lines(message, mine=message.sender == self._chat.user_id, width=width)
        return lines
