"""Items by everything known of them, learned together: id, text, attributes and picture.

Where an item has events its id carries what they taught; where it has none, text, attributes and
picture put it beside the items they resemble. See `content` for how. `parts` leaves some out.
"""

from dataclasses import dataclass
from typing import ClassVar

from shopkeeper.models.content import ContentConfig, ContentModel
from shopkeeper.models.sequential import SequenceConfig


@dataclass(frozen=True)
class Config(ContentConfig):
    pass


class Fusion(ContentModel):
    name: ClassVar[str] = "fusion"
    what: ClassVar[str] = "id, text, attributes and picture of the items of a history, tied softmax"
    config_type: ClassVar[type[SequenceConfig]] = Config
    reads_pictures: ClassVar[bool] = True
