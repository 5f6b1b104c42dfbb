"""Items by their pictures alone: what the image encoder saw, and browsing histories.

A convolutional network turns every item's picture into a vector (`image_encoder`, learned on the
shop's own pictures before any model is trained); this model learns which pictures follow a history
of pictures. So two items that look alike are wanted alike, and one without any event is recommended
by its looks. Source of the idea: He & McAuley, "VBPR: Visual Bayesian Personalized Ranking from
Implicit Feedback", AAAI 2016; unlike there, the encoder is the shop's own, a user is a history, and
the loss is a softmax over the catalogue.
"""

from dataclasses import dataclass
from typing import ClassVar

from shopkeeper.models.content import ContentConfig, ContentModel
from shopkeeper.models.sequential import SequenceConfig


@dataclass(frozen=True)
class Config(ContentConfig):
    parts: tuple[str, ...] = ("image",)


class ImageCnn(ContentModel):
    name: ClassVar[str] = "image_cnn"
    what: ClassVar[str] = (
        "pictures of a history, as a convolutional network sees them, tied softmax"
    )
    config_type: ClassVar[type[SequenceConfig]] = Config
    needs: ClassVar[str] = "image"
    reads_pictures: ClassVar[bool] = True
