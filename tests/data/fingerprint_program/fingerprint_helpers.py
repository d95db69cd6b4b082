"""What the program imports."""

from enum import StrEnum

LANGUAGES = {"en": "English", **{code: code.upper() for code in ("de", "fr")}}
LANGUAGES["it"] = "Italian"


class Style(StrEnum):
    PLAIN = "plain"
    BOLD = "bold"


def shout(text: str, times: int = 1, style: Style = Style.PLAIN) -> str:
    return text.upper() + "!" * times + style


def log(text: str) -> None:
    print(*sorted({text, "a"}), sep="\n")


def late() -> str:
    return "late" if log else f"{log}"
