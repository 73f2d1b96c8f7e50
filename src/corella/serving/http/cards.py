"""An item as lists show it."""

from urllib.parse import quote

from corella.serving.http.context import Context
from corella.serving.http.schema_listing import ItemCard


def card(context: Context, item_id: str) -> ItemCard:
    """Text, picture and link of an item of the catalogue: its own, or what the settings say of all."""
    service = context.service
    catalogue = service.live.catalogue
    code = catalogue.code(item_id)
    put = None if code is None else catalogue.held(code)
    image, link = (
        own or (form or "").replace("{item_id}", quote(item_id, safe=""))
        for own, form in (
            (put.image if put else "", service.settings.image), (put.link if put else "", service.settings.link),
        )
    )  # fmt: skip
    return ItemCard(item_id=item_id, text=catalogue.text(item_id), image=image, link=link)
