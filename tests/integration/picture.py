"""Draws what a Matrix client received as a chat on a phone: a page of HTML, made from the messages and nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from tests.stack.timeline import Event, Message, shown_content

STYLE = """
* { box-sizing: border-box; margin: 0 }
body { font: 14px/1.42 Inter, "Noto Sans", "Liberation Sans", sans-serif, "Noto Color Emoji"; color: #1b1d22;
  background: #fff; display: inline-flex; gap: 28px; padding: 20px 24px 16px }
figure { width: 376px }
figcaption { text-align: center; color: #5c6370; font-size: 13px; padding-top: 10px }
.phone { height: 774px; border-radius: 26px; overflow: hidden; display: flex; flex-direction: column;
  background: #f4f5f7; border: 1px solid #d9dce1; box-shadow: 0 6px 22px rgb(20 25 40 / .13) }
header { display: flex; align-items: center; gap: 11px; background: #fff; padding: 14px 18px 12px;
  border-bottom: 1px solid #e3e5e9 }
.avatar { width: 36px; height: 36px; border-radius: 50%; background: #2f6fed; color: #fff; font-weight: 600;
  font-size: 16px; display: grid; place-items: center }
h1 { font-size: 15px; font-weight: 600; line-height: 1.25 }
.lock { display: flex; gap: 4px; align-items: center; color: #1e7d46; font-size: 12px }
main { flex: 1; min-height: 0; display: flex; flex-direction: column; justify-content: flex-end; gap: 9px;
  padding: 14px 12px 16px; overflow: hidden }
article { max-width: 86%; padding: 8px 12px 6px; border-radius: 15px; background: #fff; align-self: flex-start;
  border-bottom-left-radius: 5px; box-shadow: 0 1px 1px rgb(20 25 40 / .08); overflow-wrap: anywhere; flex: none }
article.mine { align-self: flex-end; background: #dbe7ff; border-radius: 15px; border-bottom-right-radius: 5px }
blockquote { border-left: 3px solid #b9c4d8; color: #6a7280; font-size: 12.5px; padding-left: 7px; margin-bottom: 4px }
article ul, article ol { padding-left: 18px }
article p + p, article p + ul { margin-top: 5px }
code { font: 12.5px "Liberation Mono", monospace; background: #edeff3; border-radius: 4px; padding: 1px 4px }
footer { font-size: 11px; color: #7b8391; text-align: right; padding-top: 2px }
.note { color: #a2510a }
"""
LOCK = (
    '<svg width="10" height="12" viewBox="0 0 10 12" fill="#1e7d46">'
    '<path d="M2 5V3.5a3 3 0 0 1 6 0V5h.6c.5 0 .9.4.9.9v4.7c0 .5-.4.9-.9.9H1.4a.9.9 0 0 1-.9-.9V5.9c0-.5.4-.9.9-.9H2z'
    'm1.2 0h3.6V3.5a1.8 1.8 0 0 0-3.6 0V5z"/></svg>'
)
UNVERIFIED = '<span class="note">from an unverified session</span>'


@dataclass(frozen=True)
class Screen:
    """The end of a chat at one moment.

    Attributes:
        messages: oldest first; the newest are at the bottom, and what does not fit is above the screen.
        until: the last event that had arrived by then, by the homeserver's clock, in milliseconds.
    """

    caption: str
    room: str
    messages: Sequence[Message]
    me: str
    until: int


def page(screens: Iterable[Screen]) -> str:
    """The HTML of screens side by side."""
    figures = "".join(figure(screen) for screen in screens)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{STYLE}</style><body>{figures}</body></html>'


def figure(screen: Screen) -> str:
    arrived = [message for message in screen.messages if message.events[0].timestamp <= screen.until]
    encrypted = all(message.encrypted for message in arrived)
    lock = f'<div class="lock">{LOCK} end-to-end encrypted</div>' if encrypted else ""
    bubbles = "".join(bubble(message, screen) for message in arrived)
    room = html.escape(screen.room)
    return (
        f'<figure><div class="phone"><header><div class="avatar">{room[:1]}</div><div><h1>{room}</h1>{lock}</div>'
        f"</header><main>{bubbles}</main></div><figcaption>{html.escape(screen.caption)}</figcaption></figure>"
    )


def bubble(message: Message, screen: Screen) -> str:
    """A message as it stood then; of its edits it says that there were some, as chat clients do."""
    states = [event for event in message.events if event.timestamp <= screen.until]
    side = "mine" if message.sender == screen.me else "theirs"
    notes = [UNVERIFIED] if message.trust == "UNVERIFIED" else []
    notes += ["edited"] if len(states) > 1 else []
    footer = " · ".join([*notes, clock(message.events[0].timestamp)])
    return f'<article class="{side}">{quote(message, screen)}{body(states[-1])}<footer>{footer}</footer></article>'


def quote(message: Message, screen: Screen) -> str:
    """What a reply answers."""
    answered = next((other for other in screen.messages if other.event_id == message.reply_to), None)
    return f"<blockquote>{html.escape(answered.body)}</blockquote>" if answered else ""


def body(event: Event) -> str:
    content = shown_content(event)
    return str(content.get("formatted_body") or html.escape(str(content.get("body", ""))))


def clock(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc).astimezone().strftime("%H:%M")
