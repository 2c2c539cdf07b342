"""A page read back: its elements, its texts, and a name that would be a script."""

from html.parser import HTMLParser

EVIL = "</script><img src=x onerror=\"document.title='owned'\">'&$x"
# Elements that have no end.
_VOID = ("meta", "link", "br", "hr", "img", "input")


class Document(HTMLParser):
    """Every element of a page; what is read; and the text of each element with an id.

    Attributes:
        elements: ``(tag, attributes)`` in the order of the page.
        open: the elements that were never closed.
        texts: by id; under None the text of every element without one.
        text: all that is read, without scripts and styles.

    Raises:
        AssertionError: if elements are not closed in the order in which they were opened.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[tuple[str, str | None]] = []
        self.texts: dict[str | None, str] = {}
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Elements close in the order they were opened."""
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        """Text belongs to every element around it."""
        for name in {name for _, name in self.open}:
            self.texts[name] = self.texts.get(name, "") + data
        if not {tag for tag, _ in self.open} & {"script", "style"}:
            self.text += data
